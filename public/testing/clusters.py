"""The clusters of tests: several workers on one event loop, which share their memory and serve one application."""

import asyncio
import itertools
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, Unpack

from starlette.types import ASGIApp

from wsd.client import SyncWsdClient, WsdClient
from wsd.client.sync_client import Options
from wsd.testing.member import Member
from wsd.testing.settings import with_settings
from wsd.worker.app import load_application
from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.endpoints import hub
from wsd.worker.shared_loop.shared_lifespan import SharedLifespan

PATIENCE_SECONDS = 30.0
"""How long the start or the end of a cluster in another thread may take."""


class AsyncTestCluster:
    """An application, served by several workers on the running event loop, for tests that run on asyncio.

        async with AsyncTestCluster(app) as cluster:
            async with cluster.client("ann") as ann, cluster.client("bob") as bob:  # on two workers
                await ann.subscribe("room")
                await bob.publish("room", "hello")

    Each worker is a real server on a port of 127.0.0.1, with sessions, histories, presence and resume. The workers
    share their memory in place of a Redis. The lifespan of the application runs once.
    """

    __test__ = False  # pytest would collect a class of this name

    def __init__(
        self,
        app: ASGIApp | str | None = None,
        *,
        workers: int = 2,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """`app`: an ASGI application, or its name as "module:attribute". Without one, the workers serve the hub.

        `workers`: how many there are, 1 or more.

        `settings`: by their names in wsd.toml, such as `{"security.jwt_secret": "..."}`; `channels` is a dict of
        options by pattern.

        Raises ValueError for settings that workers do not know, and BadAppError for an application that cannot be
        imported.
        """
        if workers < 1:
            raise ValueError(f"a cluster has at least 1 worker, not {workers}")
        self._app = load_application(app) if isinstance(app, str) else app or hub.app
        self._env = with_settings(WorkerEnv(node_id="test", heartbeat_interval=1.0), settings or {})
        self._numbers = itertools.count(1)
        self._state: dict[str, Any] = {}
        self._size = workers
        self._members: list[Member] = []
        self._next = 0
        self._lifespan = SharedLifespan(self._app, self._state)

    @property
    def urls(self) -> list[str]:
        """The URL of each worker: `http://127.0.0.1:<port>`."""
        return [f"http://127.0.0.1:{member.port}" for member in self._members]

    def url(self, path: str = "/", *, worker: int | None = None) -> str:
        """Return the URL of a `path` at a `worker`: the first is 0. By default each call names the next worker."""
        if worker is None:
            worker = self._next
            self._next = (worker + 1) % self._size
        return f"{self.urls[worker]}{path}"

    def client(
        self, user_id: str = "", username: str = "", *, path: str = "/ws", worker: int | None = None, **options: Any
    ) -> WsdClient:
        """Return a client of the hub at `path`, with `options` of `WsdClient`. It begins to connect in `async with`.

        `worker`: the first is 0. By default each call takes the next worker, so that two clients are on two workers.
        """
        url = self.url(path, worker=worker).replace("http", "ws", 1)
        options.setdefault("proxy", None)
        return WsdClient(url, user_id, username, **options)

    async def __aenter__(self) -> Self:
        self._memory = SharedMemory(session_ttl=self._env.session_ttl)
        try:
            for _ in range(self._size):
                self._members.append(await self._served())
            await self._lifespan.start(self._members[0].worker)
        except BaseException:
            await self._stop_members()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop_members()
        await self._lifespan.stop()

    async def restart(self, worker: int) -> None:
        """Replace a `worker`, as a deploy does: its clients are told to come back (1012), and find a new one there.

        What the workers share stays: sessions, histories, and the clients of the other workers.
        """
        old = self._members[worker]
        await old.stop()
        self._members[worker] = await self._served(old.port)

    async def _served(self, port: int = 0) -> Member:
        env = replace(self._env, worker_id=f"worker-{next(self._numbers)}")
        member = Member(self._app, env, self._memory, self._state, port)
        await member.start()
        return member

    async def _stop_members(self) -> None:
        members, self._members = self._members, []
        await asyncio.gather(*(member.stop() for member in members))


class TestCluster:
    """An application, served by several workers in a thread of its own, for tests that do not run on asyncio.

        with TestCluster(app) as cluster:
            with cluster.client("ann") as ann, cluster.client("bob") as bob:  # on two workers
                ann.subscribe("room")
                bob.publish("room", "hello")
                assert ann.receive()["data"] == "hello"

    Everything else is as for AsyncTestCluster.
    """

    __test__ = False

    def __init__(
        self, app: ASGIApp | str | None = None, *, workers: int = 2, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Take the arguments of AsyncTestCluster: `app`, `workers` and `settings`. Raises what that raises."""
        self._cluster = AsyncTestCluster(app, workers=workers, settings=settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test cluster", daemon=True)

    @property
    def urls(self) -> list[str]:
        """The URL of each worker: `http://127.0.0.1:<port>`."""
        return self._cluster.urls

    def url(self, path: str = "/", *, worker: int | None = None) -> str:
        """Return the URL of a `path` at a `worker`: the first is 0. By default each call names the next worker."""
        return self._cluster.url(path, worker=worker)

    def client(
        self,
        user_id: str = "",
        username: str = "",
        *,
        path: str = "/ws",
        worker: int | None = None,
        **options: Unpack[Options],
    ) -> SyncWsdClient:
        """Return a client of the hub at `path`, with `options` of `SyncWsdClient`. It begins to connect in `with`.

        `worker`: the first is 0. By default each call takes the next worker, so that two clients are on two workers.
        """
        url = self.url(path, worker=worker).replace("http", "ws", 1)
        options.setdefault("proxy", None)
        return SyncWsdClient(url, user_id, username, **options)

    def restart(self, worker: int) -> None:
        """Replace a `worker`, as `AsyncTestCluster.restart` does."""
        self._run(self._cluster.restart(worker))

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._cluster.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._run(self._cluster.__aexit__(exc_type, exc, traceback))
        finally:
            self._end()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_SECONDS)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()
