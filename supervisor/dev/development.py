"""`wsd dev` while it runs: facts from the files and the processes come in, and effects are carried out."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.dev import replacement
from wsd.supervisor.dev.failures import Failures
from wsd.supervisor.dev.instance import Instance, exit_text
from wsd.supervisor.dev.replacement import (
    Changed,
    Effect,
    Ended,
    Fact,
    Kill,
    Release,
    Released,
    Serve,
    Situation,
    Start,
)
from wsd.supervisor.dev.source_files import SourceFiles, summary
from wsd.supervisor.dev.task import task_of
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.machine.terminal import say
from wsd.worker.contract.dev_channel import Failure, Kind

MARK, RED_MARK = "✗ ", "\x1b[1;31m✗\x1b[0m "
"""The beginning of an error. A file or a pipe gets it without the colour."""

RELEASE_SECONDS = 5.0
"""How long a process may take to send its clients away and to hand over its state."""

STOP_SECONDS = 4.0
"""How long the processes may take to end after Ctrl-C. They stop the application within about two seconds."""

STABLE_SECONDS = 5.0
"""A process that dies after it has served for so long is started again at once, not only after the next change."""


class Development:
    """The processes of an application, from its start until Ctrl-C."""

    def __init__(
        self,
        loaded: Loaded,
        listener: socket.socket,
        sources: SourceFiles,
        *,
        workers: int,
        reloads: bool,
        banner: tuple[str, ...],
    ) -> None:
        """`reloads`: whether changes of files have an effect. `banner`: is shown once the application is served."""
        self._loaded = loaded
        self._listener = listener
        self._sources = sources
        self._workers = workers
        self._reloads = reloads
        self._facts: asyncio.Queue[Fact] = asyncio.Queue()
        self._situation = Situation()
        self._instances: dict[int, Instance] = {}
        self._spare: Instance | None = None  # it has imported wsd, so that the next replacement is quick
        self._served_at: dict[int, float] = {}
        self._state = b""  # what the last process has handed over, until the next one serves
        self._failures = Failures()
        self._changed: set[Path] = set()  # the files because of which the process is to be replaced
        self._changed_at = time.monotonic()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._banner = banner

    async def run(self, first: Instance) -> None:
        """Serve until Ctrl-C. `first`: the process to begin with."""
        self._spare = first
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._stop)
        self._facts.put_nowait(Changed())
        jobs = [self._run_task(self._act())]
        if self._reloads:
            jobs.append(self._run_task(self._watch()))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([*jobs, stopping], return_when=asyncio.FIRST_COMPLETED)
            for job in done & set(jobs):
                job.result()
        finally:
            stopping.cancel()
            await self._end_all()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _stop(self) -> None:
        """End everything: gently at the first call, at once at the second."""
        if self._stopping.is_set():
            for instance in self._instances.values():
                instance.kill_now()
        self._stopping.set()

    async def _end_all(self) -> None:
        for number, instance in self._instances.items():
            instance.tell(Kind.STOP)
            if number != self._situation.serving:
                instance.terminate()
        if self._spare is not None:
            self._spare.kill_now()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*(instance.ended() for instance in self._instances.values()))
        for instance in self._instances.values():
            instance.kill_now()

    async def _watch(self) -> None:
        from wsd.supervisor.dev.watching import bursts  # noqa: PLC0415 - the first process starts before it is imported

        async for paths in bursts(self._sources):
            if self._sources.settings_file in paths and not self._read_settings():
                paths.discard(self._sources.settings_file)
            if paths:
                self._changed |= paths
                self._changed_at = time.monotonic()
                self._facts.put_nowait(Changed())

    def _read_settings(self) -> bool:
        """Read wsd.toml again. Return whether its settings can be used."""
        try:
            loaded = self._loaded.again()
        except ConfigError as exc:
            self._show(Failure(str(exc), ""))
            return False
        address, new = self._loaded.config.cluster, loaded.config.cluster
        if (address.host, address.port) != (new.host, new.port):
            say(f"{self._sources.settings_file.name}: another host or port counts from the next `wsd dev` on")
        self._loaded = loaded
        return True

    async def _act(self) -> None:
        while True:
            fact = await self._facts.get()
            self._situation, effects = replacement.step(self._situation, fact)
            for effect in effects:
                self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Start(number):
                spare, self._spare = self._spare, None
                self._instances[number] = spare if spare is not None and spare.runs else Instance()
                self._run_task(self._follow(number, self._instances[number]))
            case Kill(number):
                self._run_task(self._instances[number].kill())
            case Release(number):
                self._instances[number].tell(Kind.RELEASE)
                self._run_task(self._limit_release(number, self._instances[number]))
            case Serve(number):
                self._instances[number].tell(Kind.SERVE, self._state)

    async def _follow(self, number: int, instance: Instance) -> None:
        """Turn what a process says, and its end, into facts."""
        has_failed = has_released = False
        task = task_of(self._loaded, self._workers, self._sources.directories)
        async for kind, body in instance.load(task, self._listener):
            match kind:
                case Kind.LOADED:
                    self._facts.put_nowait(replacement.Loaded(number))
                case Kind.SERVING:
                    self._serves(number)
                case Kind.FAILED:
                    has_failed = True
                    if number in (self._situation.serving, self._situation.following):
                        self._show(Failure.decode(body))
                    self._facts.put_nowait(Ended(number))
                    self._run_task(instance.kill())  # a thread of the application may keep it alive
                case Kind.STATE:
                    has_released = True
                    self._state = body
                    self._facts.put_nowait(Released(number))
                case _:
                    pass
        code = await instance.ended()
        del self._instances[number]
        situation, stopping = self._situation, self._stopping.is_set()
        served = time.monotonic() - self._served_at.pop(number, time.monotonic())
        can_be_repeated = served >= STABLE_SECONDS and not stopping
        is_expected = has_failed or situation.is_releasing or stopping
        if number in (situation.serving, situation.following) and not is_expected:
            self._show(Failure(f"the process of the application {exit_text(code)}", ""), starts_again=can_be_repeated)
        elif situation.is_releasing and number == situation.serving and not (has_released or stopping):
            say(f"the old process {exit_text(code)}: its sessions and messages are lost", err=True)
        self._facts.put_nowait(Ended(number, can_be_repeated))

    def _serves(self, number: int) -> None:
        self._state = b""
        self._failures.succeeded()
        self._served_at[number] = time.monotonic()
        if self._banner:
            for line in self._banner:
                say(line)
            self._banner = ()
        else:
            seconds = time.monotonic() - self._changed_at
            say(f"{summary(self._changed)}: replaced in {seconds:.1f} s" if self._changed else "started again")
        self._changed.clear()
        if self._reloads and self._spare is None:
            self._spare = Instance()

    def _show(self, failure: Failure, *, starts_again: bool = False) -> None:
        first, *others = self._failures.lines(failure, self._consequence(starts_again))
        say(first, prefix=MARK if "NO_COLOR" in os.environ else RED_MARK, err=True)
        for line in others:
            say(line, err=True)

    def _consequence(self, starts_again: bool) -> str:
        """Say what a failure means for the clients."""
        if self._situation.serving in self._served_at:
            return "The code before the change goes on serving."
        if starts_again:
            return "It is started again."
        way_out = "the next change starts it again" if self._reloads else "start `wsd dev` again once it is repaired"
        return f"Nothing is served: {way_out}."

    async def _limit_release(self, number: int, instance: Instance) -> None:
        await asyncio.sleep(RELEASE_SECONDS)
        if self._situation.serving == number:
            say(f"the old process has kept its clients for {RELEASE_SECONDS:.0f} s, and is killed", err=True)
        if number in self._instances:  # a thread of the application may keep it alive
            instance.kill_now()

    def _run_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
