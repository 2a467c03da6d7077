"""A Django project with Channels that publishes from views, and whose consumers are members of a channel."""

import asyncio

import django
from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from wsd import get_websocket_manager

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", INSTALLED_APPS=["channels"])
django.setup()


def publish(request: HttpRequest) -> HttpResponse:
    reached = async_to_sync(get_websocket_manager().publish)("news", request.GET["text"])
    return HttpResponse(str(reached.everywhere))


async def publish_async(request: HttpRequest) -> HttpResponse:
    await get_websocket_manager().publish("news", request.GET["text"])
    return HttpResponse()


class News(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.accept()
        manager = self.scope["state"]["websocket_manager"]
        self.client = await manager.connect("ann", welcome=False)
        await manager.join(self.client, "news")
        self.pump = asyncio.create_task(self.client.pump(self.send))
        await self.send(manager.worker_id)

    async def disconnect(self, code: int) -> None:
        self.pump.cancel()
        self.scope["state"]["websocket_manager"].disconnect(self.client, code)


urlpatterns = [path("publish", publish), path("publish-async", publish_async)]
app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("news", News.as_asgi())]),
    }
)
