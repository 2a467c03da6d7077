"""The process of `wsd dev`, and what it hands over."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import clean_env
from wsd.worker.backend.memory_snapshot import MemorySnapshot
from wsd.worker.backend.roster import Roster
from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.broker.history import Retention
from wsd.worker.contract.dev_channel import CHANNEL_FD, Kind, Task, packed, send_listener
from wsd.worker.contract.environment import WorkerEnv

MESSAGES = 40
HEADER_BYTES = len(packed(Kind.STATE))


def large_state() -> bytes:
    """Return a state of 2 MB, more than a channel between processes takes at once."""
    memory = SharedMemory(session_ttl=60)
    broker = memory.enter("worker-1-a", Roster(1.0, 5.0)).broker
    for _ in range(MESSAGES):
        broker.append_soon("ws_channel:{room}", b"x" * 50_000, Retention(1000, 60.0), lambda _: None)
    return memory.snapshot().encode()


def receive(channel: socket.socket, length: int) -> bytes:
    return channel.recv(length, socket.MSG_WAITALL)


def test_a_process_ends_only_when_all_of_its_state_is_read(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "wsd.worker.dev"],
            env={**clean_env(), CHANNEL_FD: str(theirs.fileno())},
            cwd=tmp_path,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        try:
            send_listener(ours, listener)
            environ = WorkerEnv(app_directory=str(tmp_path)).to_env()
            ours.sendall(packed(Kind.LOAD, Task(environ, os.fspath(tmp_path), 1, []).encode()))
            assert receive(ours, HEADER_BYTES) == packed(Kind.LOADED)
            ours.sendall(packed(Kind.SERVE, large_state()))
            assert receive(ours, HEADER_BYTES) == packed(Kind.SERVING)
            ours.sendall(packed(Kind.RELEASE))
            header = receive(ours, HEADER_BYTES)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            body = receive(ours, int.from_bytes(header[1:]))
            assert header == packed(Kind.STATE, body)[:HEADER_BYTES]
            histories = MemorySnapshot.decode(body).histories
            assert len(histories["ws_channel:{room}"].entries) == MESSAGES
            assert process.wait(10) == 0
        finally:
            process.kill()
