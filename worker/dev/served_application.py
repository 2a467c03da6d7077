"""An application on workers that share their memory, from its import until it hands the memory over."""

import asyncio
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
from starlette.types import ASGIApp

from wsd.worker.app import load_application
from wsd.worker.backend.memory_snapshot import MemorySnapshot
from wsd.worker.backend.shared_memory import SharedMemory
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.endpoints import hub
from wsd.worker.logs import get_logger, yield_to_application
from wsd.worker.manager_name import check_names
from wsd.worker.process_workers import live_workers, share
from wsd.worker.shared_loop.served_worker import ServedWorker
from wsd.worker.shared_loop.shared_lifespan import SharedLifespan

logger = get_logger(__name__)

UNREAD_SECONDS = 0.05
"""How long connections that are accepted already have to send their requests, once no more are accepted."""

SHUTDOWN_SECONDS = 2.0
"""How long the shutdown of the application may hold up its successor."""


def worker_ids(workers: int) -> list[str]:
    """Return new ids of workers, so that their sessions are not taken for those of their predecessors."""
    return [f"worker-{slot}-{secrets.token_hex(2)}" for slot in range(1, workers + 1)]


class ServedApplication:
    """An application and its workers."""

    def __init__(self, env: WorkerEnv, ids: list[str], on_error: Callable[[BaseException], object]) -> None:
        """Import the application. `env`: of the first worker. `on_error` is called with what it raises then.

        Raises BadAppError, AmbiguousNameError, and ValueError for a function of the settings that cannot be imported.
        """
        self._memory = SharedMemory(session_ttl=env.session_ttl)
        share(self._memory)  # the application may ask for its worker while it is imported
        app: ASGIApp = load_application(env.app, on_error) if env.app else hub.app
        check_names()
        yield_to_application()
        self._state: dict[str, Any] = {}
        made = {worker.env.worker_id: worker for worker in live_workers()}
        self._workers = [
            ServedWorker(app, replace(env, worker_id=name, slot=slot), self._memory, self._state, worker=made.get(name))
            for slot, name in enumerate(ids, 1)
        ]
        self._lifespan = SharedLifespan(app, self._state)
        self._listener: asyncio.Server | None = None

    async def start(self, state: bytes, listener: socket.socket) -> None:
        """Serve the connections of a listener. `state`: what another process has handed over, or nothing.

        Raises StartupFailedError.
        """
        if state:
            try:
                self._memory.restore(MemorySnapshot.decode(state))
            except msgspec.DecodeError as exc:
                logger.warning("the sessions and messages of the previous process cannot be read: %s", exc)
        for worker in self._workers:
            await worker.start()
        await self._lifespan.start(self._workers[0].worker)
        yield_to_application()

        def protocol() -> asyncio.Protocol:
            return min(self._workers, key=lambda worker: worker.load).protocol()

        self._listener = await asyncio.get_running_loop().create_server(protocol, sock=listener)

    async def stop(self) -> None:
        """Send the clients away, so that they come back (1012), and run the shutdown of the application."""
        if self._listener is not None:
            self._listener.close()
            await asyncio.sleep(UNREAD_SECONDS)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await self._lifespan.stop()
        except TimeoutError:
            logger.warning("the shutdown of the application takes longer than %.0f s", SHUTDOWN_SECONDS)
        except Exception:  # it must not cost the next process its state
            logger.exception("the shutdown of the application failed")
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    def handed_over(self) -> bytes:
        """Return what the next process is to go on with. To be called after `stop`."""
        try:
            return self._memory.snapshot().encode()
        except (TypeError, ValueError) as exc:
            logger.warning("sessions and messages cannot be handed over: %s", exc)
            return b""
