"""One process, one application, and many event loops: as test suites have them, and threads that publish."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from wsd import ConnectionManager, WebSocketMiddleware, get_websocket_manager
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.endpoints import hub
from wsd.worker.process_workers import current_worker, live_workers
from wsd.worker.worker import Worker

manager = ConnectionManager("event-loops")


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """End a test that hangs: TestClient has no timeout of its own."""
    timer = threading.Timer(20, lambda: pytest.exit("a test hangs", 1))
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()


async def chat(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    async for text in websocket.iter_text():
        await manager.broadcast(text)


def in_a_thread(request: Request) -> PlainTextResponse:
    """Publish from a synchronous view, which has no event loop, with a loop of its own."""

    async def publish() -> bool:
        return (await get_websocket_manager().publish("news", request.url.path)).everywhere

    return PlainTextResponse(str(asyncio.run(publish())))


ROUTES = [WebSocketRoute("/chat", chat), Route("/thread", in_a_thread)]


def bare() -> ASGIApp:
    return Starlette(routes=ROUTES)


def with_middleware() -> ASGIApp:
    app = Starlette(routes=ROUTES)
    app.add_middleware(WebSocketMiddleware)
    return app


def wrapped() -> ASGIApp:
    return WebSocketMiddleware(Starlette(routes=ROUTES))


APPLICATIONS = [bare, with_middleware, wrapped]
one_for_all = with_middleware()


def talk(client: TestClient) -> None:
    with client.websocket_connect("/chat") as one, client.websocket_connect("/chat") as two:
        for sender, text in ((one, "from one"), (two, "from two")):
            sender.send_text(text)
            assert (one.receive_text(), two.receive_text()) == (text, text)


@pytest.mark.parametrize("create_app", APPLICATIONS)
@pytest.mark.parametrize("with_lifespan", [True, False])
@pytest.mark.parametrize("again", ["the same application", "another one"])
def test_suites_with_a_client_for_each_test(create_app: Callable[[], ASGIApp], with_lifespan: bool, again: str) -> None:
    app = create_app()
    for _ in range(3):
        client = TestClient(app)
        with client if with_lifespan else nullcontext():
            talk(client)
            if create_app is not bare:
                assert client.get("/health").json()["status"] == "healthy"
                assert client.get("/metrics").status_code in (200, 403)
        if again == "another one":
            app = create_app()


def test_an_application_of_the_module_is_served_after_its_lifespan_too() -> None:
    with TestClient(one_for_all) as client:
        talk(client)
    talk(TestClient(one_for_all))
    with TestClient(one_for_all) as client:
        talk(client)
        with TestClient(one_for_all) as inner:
            talk(inner)
        talk(client)


@pytest.mark.parametrize("number", range(3))
def test_the_hub_on_one_loop_after_another(number: int) -> None:
    app = WebSocketMiddleware(hub.app)

    async def serve() -> None:
        await app.worker.start()
        connection = await app.manager.connect("ann")
        assert (await app.manager.broadcast(number)).everywhere
        assert app.manager.connection_count == 1
        app.manager.disconnect(connection)

    asyncio.run(serve())


def test_a_thread_with_a_loop_of_its_own_publishes_on_that_of_the_worker() -> None:
    with TestClient(wrapped()) as client:
        assert client.get("/thread").text == "True"
        assert len(live_workers()) == 1


async def worker_of_this_loop() -> Worker:
    found = current_worker(WorkerEnv(worker_id="w", node_id="n"))
    await found.start()
    assert current_worker() is found
    return found


def test_a_worker_that_is_stopped_or_whose_loop_is_closed_is_forgotten() -> None:
    first = asyncio.run(worker_of_this_loop())
    assert first.over

    async def stopped() -> Worker:
        found = await worker_of_this_loop()
        await found.stop()
        assert current_worker() is not found
        return found

    second = asyncio.run(stopped())
    assert second is not first
    assert not {first, second} & set(live_workers())
