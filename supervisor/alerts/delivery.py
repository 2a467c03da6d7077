"""Deliver one alert: run the operator's command, or POST to the operator's URL."""

import asyncio
import http.client
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from wsd.supervisor.alerts.ledger import Alert

POLL_SECONDS = 0.05
MAX_OUTPUT_BYTES = 2000
"""How much of the end of a command's output is kept."""


class DeliveryError(Exception):
    """An alert did not arrive; the text says why, on one line."""


async def run_command(
    command: str, alert: Alert, timeout: float, children: set[int], say: Callable[[str], None] = lambda text: None
) -> None:
    """Run a command with the alert as JSON on its standard input, and kill its process group after `timeout` seconds.

    `children` holds the pid of the command while it runs. `say` gets what the command prints. Raises DeliveryError.
    """
    try:
        await _run(command, alert, timeout, children, say)
    except OSError as exc:  # a full disk, for example, which may be what the alert is about
        raise DeliveryError(f"alerts.command cannot be run: {exc}") from None


async def _run(command: str, alert: Alert, timeout: float, children: set[int], say: Callable[[str], None]) -> None:
    fields = {"EVENT": alert.event, "PROBLEM": alert.problem, "TEXT": alert.text, "NODE_ID": alert.node_id}
    environment = os.environ | {f"WSD_ALERT_{name}": value.replace("\0", "") for name, value in fields.items()}
    # Files in place of pipes: neither a full pipe nor a grandchild that keeps one open can hold up the supervisor.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output:
        given.write(msgspec.json.encode(alert))
        given.seek(0)
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - the fork takes a millisecond
                shlex.split(command),
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except ValueError as exc:
            raise DeliveryError(f"alerts.command cannot be run: {exc}") from None
        children.add(process.pid)
        try:
            async with asyncio.timeout(timeout):
                while process.poll() is None:  # noqa: ASYNC110 - the process sets no asyncio.Event
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise DeliveryError(f"alerts.command did not end within {timeout:g} s, and was killed") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            children.discard(process.pid)
        output.seek(max(0, output.seek(0, os.SEEK_END) - MAX_OUTPUT_BYTES))
        printed = " ".join(output.read().decode("utf-8", "replace").split())
    if printed:
        say(f"alerts.command printed: {printed}")
    if process.returncode:
        raise DeliveryError(f"alerts.command ended with exit code {process.returncode}")


async def post(url: str, alert: Alert, timeout: float) -> None:
    """POST an alert as JSON. An answer other than 2xx, and none within `timeout` seconds, raise DeliveryError."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[int] = loop.create_future()

    def settle(status: int, error: Exception | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(status)
        else:
            done.set_exception(error)

    def work() -> None:
        status, error = 0, None
        try:
            status = _status_of_post(url, msgspec.json.encode(alert), timeout)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            error = exc
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, status, error)

    # A daemon thread, because the threads of the event loop's executor would hold up the end of the supervisor.
    threading.Thread(target=work, daemon=True, name="alert").start()
    try:
        status = await asyncio.wait_for(done, timeout)
    except TimeoutError:
        raise DeliveryError(f"alerts.url did not answer within {timeout:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as exc:
        raise DeliveryError(f"alerts.url cannot be reached: {exc}") from None
    if not 200 <= status < 300:
        raise DeliveryError(f"alerts.url answered with status {status}")


def _status_of_post(url: str, body: bytes, timeout: float) -> int:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()
