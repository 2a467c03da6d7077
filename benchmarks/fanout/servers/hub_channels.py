"""A hub with Django Channels and channels_redis."""

import sys

import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from django.conf import settings

port, redis_url = int(sys.argv[1]), sys.argv[2]
settings.configure(
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [redis_url]},
        }
    }
)


class Hub(AsyncWebsocketConsumer):
    async def receive(self, text_data: str = "", bytes_data: bytes | None = None) -> None:
        if text_data.startswith("+"):
            await self.channel_layer.group_add(text_data[1:], self.channel_name)
            await self.send(text_data)
        elif text_data.startswith("="):
            await self.send(text_data)
        else:
            await self.channel_layer.group_send(text_data.partition(" ")[0], {"type": "say", "text": text_data})

    async def say(self, event: dict[str, str]) -> None:
        await self.send(event["text"])


uvicorn.run(
    ProtocolTypeRouter({"websocket": Hub.as_asgi()}),
    port=port,
    ws="websockets-sansio",
    ws_per_message_deflate=False,
    log_level="error",
    lifespan="off",
)
