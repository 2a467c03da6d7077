"""Run the process of an application under `wsd dev`: `python -m wsd.worker.dev`."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvloop

from wsd.worker.app import BadAppError
from wsd.worker.contract import dev_channel
from wsd.worker.contract.dev_channel import Failure, Kind, packed
from wsd.worker.contract.environment import WORKER_ID, WorkerEnv
from wsd.worker.contract.lifecycle import EXIT_BAD_APP, EXIT_STARTUP_FAILED
from wsd.worker.dev.console import log_to_terminal
from wsd.worker.dev.error_report import IsOwn, code_in, report_of
from wsd.worker.dev.served_application import ServedApplication, worker_ids
from wsd.worker.shared_loop.shared_lifespan import StartupFailedError


def main() -> int:
    """Wait for a task, then serve until told to stop. Return the exit code."""
    # Ctrl-C reaches all processes of the terminal. The one that started this one decides what becomes of it.
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    channel = socket.socket(fileno=int(os.environ.pop(dev_channel.CHANNEL_FD)))
    channel.set_inheritable(False)
    received = dev_channel.receive_task(channel)
    if received is None:
        return 0
    listener, task = received
    ids = worker_ids(task.workers)
    is_own = code_in(task.sources)
    os.chdir(task.here)
    os.environ.update(task.environ, PWD=task.here)
    os.environ[WORKER_ID] = ids[0]
    env = WorkerEnv.from_env(os.environ)
    log_to_terminal(env.log_level, is_own)
    sys.path[:0] = dict.fromkeys([str(Path(env.app_directory).resolve()), str(Path.cwd())])
    raised: list[BaseException] = []
    try:
        application = ServedApplication(env, ids, raised.append)
    except (BadAppError, ValueError) as exc:
        if raised:
            channel.sendall(_failed(f'the application "{env.app}" cannot be imported', raised[0], is_own))
        else:
            channel.sendall(_failed(str(exc), None if isinstance(exc, BadAppError) else exc.__context__, is_own))
        return EXIT_BAD_APP
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(application, channel, listener, is_own))


async def _serve(application: ServedApplication, channel: socket.socket, listener: socket.socket, is_own: IsOwn) -> int:
    """Do what the messages of `wsd dev` say. Its end is the end of this process, too."""
    reader, writer = await asyncio.open_connection(sock=channel)
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, lambda: None)
    writer.write(packed(Kind.LOADED))
    message = await dev_channel.receive(reader)
    if message is None or message[0] is not Kind.SERVE:
        return 0
    try:
        await application.start(message[1], listener)
    except StartupFailedError as exc:
        writer.write(_failed("the application failed to start", exc.__cause__ or exc, is_own))
        await _sent(writer)
        return EXIT_STARTUP_FAILED
    writer.write(packed(Kind.SERVING))
    message = await dev_channel.receive(reader)
    await application.stop()
    if message is not None and message[0] is Kind.RELEASE:
        writer.write(packed(Kind.STATE, application.handed_over()))
    await _sent(writer)
    return 0


async def _sent(writer: asyncio.StreamWriter) -> None:
    """Wait until everything is sent. `drain` returns while a part is still to be sent, which the end would cut off."""
    writer.close()
    with suppress(OSError):  # the other side is gone
        await writer.wait_closed()


def _failed(reason: str, cause: BaseException | None, is_own: IsOwn) -> bytes:
    """Return the message that says why the application does not run. `cause`: what its own code has raised."""
    if cause is None:
        return packed(Kind.FAILED, Failure(reason, "").encode())
    report = report_of(cause, is_own)
    return packed(Kind.FAILED, Failure(f"{reason}: {report.title}", report.traceback).encode())


if __name__ == "__main__":
    sys.exit(main())
