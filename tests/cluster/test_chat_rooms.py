"""An ordinary chat of FastAPI moves to wsd by the patches in examples/chat_rooms, and misses nothing in a deploy."""

import asyncio
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.cluster import ROOT, Cluster, clean_env
from tests.support.waiting import eventually

EXAMPLE = ROOT / "examples" / "chat_rooms"
ALL_WORKERS = EXAMPLE / "1-all-workers.patch"
NOTHING_MISSED = EXAMPLE / "2-nothing-missed.patch"


def chat_in(directory: Path, *patches: Path) -> None:
    """Copy the chat, and change it by patches."""
    shutil.copytree(EXAMPLE, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
    for patch in patches:
        subprocess.run(["git", "apply", str(patch)], cwd=directory, env=clean_env(GIT_DIR="none"), check=True)


def test_the_tests_of_the_chat_pass_unchanged(tmp_path: Path) -> None:
    chat_in(tmp_path, ALL_WORKERS)
    assert not (tmp_path / "chat" / "manager.py").exists()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 passed" in result.stdout


class Page:
    """A page of the chat that comes back as its script does: with the position of the last message."""

    def __init__(self, port: int, name: str) -> None:
        self._address = f"127.0.0.1:{port}"
        self._name = name
        body = json.dumps({"name": name, "password": "pw"}).encode()
        login = urllib.request.Request(f"http://{self._address}/login", body, {"content-type": "application/json"})
        with urllib.request.urlopen(login, timeout=10) as answer:
            self._token: str = json.load(answer)["token"]
        self._at = ""
        self._socket: ClientConnection | None = None
        self.texts: list[str] = []
        self.others: list[dict[str, Any]] = []
        self.connections = 0

    async def listen(self) -> None:
        """Hear all messages, on one connection after the other."""
        while True:
            url = f"ws://{self._address}/rooms/lobby?token={self._token}&at={self._at}"
            async with connect(url) as self._socket:
                self.connections += 1
                with suppress(ConnectionClosed):
                    async for frame in self._socket:
                        self._hear(json.loads(frame))

    def _hear(self, message: dict[str, Any]) -> None:
        self._at = message["at"]
        if "text" in message:
            self.texts.append(message["text"])
        else:
            self.others.append(message)

    async def talk(self, until: asyncio.Event) -> None:
        """Say one text after the other. Each waits for the one before, unless that was lost with the connection."""
        number = 0
        while not until.is_set():
            number += 1
            text = f"{self._name} {number}"
            socket = self._socket
            assert socket is not None
            try:
                await socket.send(text)
            except ConnectionClosed:
                await asyncio.sleep(0.01)
                continue
            await eventually(lambda text=text, socket=socket: text in self.texts[-50:] or socket is not self._socket)  # type: ignore[misc]


@asynccontextmanager
async def listening(*pages: Page) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(page.listen()) for page in pages]
        await eventually(lambda: all(page.connections for page in pages))
        yield
        for task in running:
            task.cancel()


def tables_in(directory: Path) -> None:
    create = [sys.executable, "-c", "from chat.database import create_tables; create_tables()"]
    subprocess.run(create, cwd=directory, check=True)


@pytest.mark.anyio
async def test_no_page_misses_a_message_while_the_workers_are_replaced(tmp_path: Path) -> None:
    chat_in(tmp_path, ALL_WORKERS, NOTHING_MISSED)
    tables_in(tmp_path)
    with Cluster(tmp_path, "--workers", "2", "--app", "chat.main:app") as cluster:
        pages = [Page(cluster.port, f"page-{number}") for number in range(6)]
        done = asyncio.Event()
        async with listening(*pages):
            await eventually(lambda: all(worker.connections for worker in cluster.status().workers))
            async with asyncio.TaskGroup() as tasks:
                for page in pages[:2]:
                    tasks.create_task(page.talk(done))
                await eventually(lambda: all(len(page.texts) > 20 for page in pages))
                await cluster.run("restart")
                await eventually(lambda: all(page.connections > 1 for page in pages))
                heard = len(pages[0].texts)
                await eventually(lambda: len(pages[0].texts) > heard + 20)
                done.set()
            everything = set().union(*(page.texts for page in pages))
            await eventually(lambda: all(everything <= set(page.texts) for page in pages))
        for page in pages:
            assert page.texts == pages[0].texts[-len(page.texts) :], "each once, and all in the same order"
            assert [message for message in page.others if "joined" not in message] == []
