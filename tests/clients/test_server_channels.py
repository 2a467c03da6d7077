"""Channels that the server chooses: it lets clients join them, and takes clients out of channels."""

import json
from pathlib import Path

import pytest

from tests.support.client_kinds import kinds, new_client
from tests.support.client_programs import Program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.server import uvicorn
from tests.support.waiting import until
from wsd import Publisher

every_kind = pytest.mark.parametrize("kind", kinds("asyncio"))

CHANNELS = json.dumps({"closed:*": {"allow_subscribe": "server"}, "brief:*": {"history_size": 0}})


@every_kind
def test_the_server_of_a_real_hub_lets_clients_join_and_leave(ann: Program, tmp_path: Path) -> None:
    env = {"WSD_WORKER_API_KEY": "sesame", "WSD_WORKER_CHANNELS": CHANNELS, "WSD_WORKER_ALLOWED_ORIGINS": "*"}
    with (
        uvicorn(tmp_path, "wsd.worker.app:app", **env) as port,
        Publisher(f"http://127.0.0.1:{port}", "sesame") as server,
        new_client(ann, f"ws://127.0.0.1:{port}/ws"),
    ):

        def reconnect() -> None:
            before = ann.states.count("open")
            ann.ask("reconnect")
            until(lambda: ann.states.count("open") > before, "the next connection")

        def left(channel: str) -> list[str]:
            return [each["code"] for each in ann.seen("left", channel=channel)]

        ann.until_state("open")
        assert ann.answer(ann.do("subscribe", channel="closed:1"))["code"] == "forbidden"
        for channel in ("closed:1", "closed:2", "brief:1"):
            assert server.subscribe("ann", channel) == 1
            server.publish(channel, 1)
        until(lambda: ann.heard("closed:1") == [1])
        ann.ask("subscribe", channel="closed:1", handled=True)
        server.publish("closed:1", 2)
        reconnect()
        for channel in ("closed:1", "closed:2", "brief:1"):
            server.publish(channel, 3)
        until(lambda: [ann.heard(each) for each in ("closed:1", "closed:2", "brief:1")] == [[1, 2, 3], [1, 3], [1, 3]])
        assert [each["message"]["data"] for each in ann.seen("handled")] == [2, 3]
        assert ann.seen("left") == ann.seen("gap") == []

        assert server.unsubscribe("ann", "closed:1") == 1
        until(lambda: left("closed:1") == ["server"])
        reconnect()
        server.publish("closed:1", 4)
        assert server.subscribe("ann", "closed:1") == 1  # it was not in it
        server.publish("closed:1", 5)
        until(lambda: ann.heard("closed:1") == [1, 2, 3, 5])
        assert len(ann.seen("handled")) == 2, "the handler went with the channel"

        server.disconnect(user_id="ann", code=1012)  # the session is over, and the client comes back with a new one
        until(lambda: left("brief:1") == ["session_lost"])
        until(lambda: (left("closed:1"), left("closed:2")) == (["server", "forbidden"], ["forbidden"]))


@every_kind
def test_what_was_missed_in_a_channel_that_the_server_chose_comes_later(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        ann.until_state("open")
        ann.ask("subscribe", channel="own")
        hub.put_in("chosen")
        hub.take_out("own")
        until(lambda: ann.seen("left", channel="own", code="server"))
        hub.publish("chosen", 1)
        until(lambda: ann.heard("chosen") == [1])
        hub.close_port()
        hub.close(1006)
        hub.publish("chosen", 2)
        joining = ann.do("subscribe", channel="chosen", handled=True)
        hub.open_port()
        assert "ok" in ann.answer(joining)
        hub.publish("chosen", 3)
        hub.publish("own", 3)
        until(lambda: ann.heard("chosen") == [1, 2, 3])
        assert [each["message"]["data"] for each in ann.seen("handled")] == [2, 3]
        assert ann.heard("own") == []
        assert ann.seen("gap") == []
        assert len(hub.records.requests("subscribe")) == 2, "each that the application has made"
