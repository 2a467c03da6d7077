"""Decorators on `Cluster` name the functions that learn what happens to clients."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

from tests.support.waiting import until
from wsd import ClientMessage, Cluster, Connected, Disconnected, MessageRefusedError, Subscribed, Unsubscribed
from wsd.worker.hooks import functions


@pytest.fixture(autouse=True)
def no_function_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(functions, "_registered", {})
    yield


def application(told: list[Any]) -> FastAPI:
    """Return an application with a protocol of its own at /own, and the hub at /live."""
    cluster = Cluster()
    app = FastAPI(lifespan=cluster.lifespan)
    app.mount("/live", cluster.hub)

    @app.websocket("/own")
    async def own(websocket: WebSocket) -> None:
        async with cluster.serve(websocket, user_id="ann") as client:
            await client.join("room")
            await client.leave("room")
            await client.send("done")
            async for _ in client:
                pass

    @cluster.on_connect
    def connected(event: Connected) -> None:
        told.append(event)

    @cluster.on_disconnect
    async def gone(event: Disconnected) -> None:
        told.append(event)

    @cluster.on_subscribe
    async def joined(event: Subscribed) -> None:
        told.append(event)

    @cluster.on_unsubscribe
    def left(event: Unsubscribed) -> None:
        told.append(event)

    @cluster.on_message
    def check(message: ClientMessage) -> None:
        raise MessageRefusedError(f"{message.identity.user_id} is silent in {message.channel}")

    return app


def test_functions_of_decorators_learn_of_clients_of_any_protocol() -> None:
    told: list[Any] = []
    with TestClient(application(told)) as client:
        with client.websocket_connect("/own") as own:
            assert own.receive_text() == "done"
        until(lambda: len(told) == 4)
        assert [type(event) for event in told] == [Connected, Subscribed, Unsubscribed, Disconnected]
        assert {event.user_id for event in told} == {"ann"}
        with client.websocket_connect("/live/ws?user_id=bob") as hub:
            hub.receive_json()
            hub.send_json({"type": "publish", "channel": "room", "data": 1, "id": 1})
            answer = hub.receive_json()
        assert (answer["code"], answer["message"]) == ("refused", "bob is silent in room")


def test_a_factory_may_run_again_but_two_functions_for_one_hook_are_refused() -> None:
    application([])
    application([])
    with pytest.raises(ValueError, match=r"on_connect is .*application.<locals>.connected already"):

        @Cluster().on_connect
        def another(event: Connected) -> None:
            pass
