"""Tokens that are replaced while clients are connected: those of the clients themselves, and those of channels."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.client_kinds import kinds
from tests.support.client_programs import Program
from tests.support.server import uvicorn
from tests.support.waiting import until

every_kind = pytest.mark.parametrize("kind", kinds("asyncio"))

SECRET = "0123456789abcdef0123456789abcdef"
CHANNELS = json.dumps({"room:*": {"allow_subscribe": "token"}})


def token(seconds: float = 600, **claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": time.time() + seconds, **claims}, SECRET, "HS256")


def wait_for_the_end_of(url: str, text: str) -> None:
    """Wait until the hub has closed a connection because its token has expired."""
    with connect(f"{url}?token={text}") as connection, pytest.raises(ConnectionClosed) as ended:
        while True:
            connection.recv(30)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 4401


@every_kind
def test_clients_replace_their_tokens_and_stay_connected_and_in_channels(ann: Program, tmp_path: Path) -> None:
    env = {"WSD_WORKER_JWT_SECRET": SECRET, "WSD_WORKER_CHANNELS": CHANNELS, "WSD_WORKER_ALLOWED_ORIGINS": "*"}
    with uvicorn(tmp_path, "wsd.worker.app:app", **env) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        ann.connect(url, tokens=[token(3), token()])
        assert ann.answer(ann.do("subscribe", channel="room:1"))["code"] == "token_needed"
        assert ann.answer(ann.do("subscribe", channel="room:1", tokens=[None]))["code"] == "no_token"
        # The first is replaced before it ends, and the second ends at once.
        ann.ask("subscribe", channel="room:1", tokens=[token(3, channel="room:1"), token(channel="room:1")])
        ann.ask("subscribe", channel="room:2", tokens=[token(1, channel="room:2"), token(channel="room:*")])
        ann.ask("publish", channel="room:2", data="before the end")
        wait_for_the_end_of(url, token(5))  # at least a second after the first tokens of the client
        for channel in ("room:1", "room:2"):
            ann.ask("publish", channel=channel, data="after it")
        until(lambda: ann.heard("room:1") == ["after it"], "the message in room:1")
        until(lambda: ann.heard("room:2") == ["before the end", "after it"], "the messages in room:2")
        assert len(ann.seen("token_asked")) == 7
        assert ann.states == ["connecting", "open"]
        assert ann.seen("left") == ann.seen("gap") == []
        ann.ask("close")
    assert ann.troubles == []
