"""The client side of the control socket: how `wsd` talks to its supervisor."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Mapping

from wsd.supervisor.counts import count
from wsd.supervisor.deploys.asker import ASKED_BY_HEADER, this_command
from wsd.supervisor.errors import CommandError, NotRunningError
from wsd.supervisor.machine.private_files import read_secret
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.unix_http import UnixConnection, request
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER

UPGRADE_SECONDS = 60.0
"""How long the installed version may take to check its settings, and then to be up."""

ALIVE_SECONDS = 5.0
"""How long a supervisor may take to show that it lives."""

ALIVE_PAUSE_SECONDS = 0.2


class ControlClient:
    """A client of the control API of the supervisor that runs in `state_dir`."""

    def __init__(self, state_dir: StateDir, timeout: float = 5.0, *, way: str = "") -> None:
        """`timeout` in seconds. `way` says in the events how the request was made; by default, the `wsd` command."""
        self._asker = this_command(way)
        self._state_dir = state_dir
        self._timeout = timeout

    def call(self, method: str, target: str, body: object = None) -> bytes:
        """Send a request, and return the body of the response.

        Raises NotRunningError when no supervisor runs, and CommandError when it refuses or does not answer.
        """
        with self._mapped_errors():
            path, headers = self._state_dir.control_socket, self._headers()
            status, answer = request(path, method, target, self._timeout, body, headers=headers)
        return _accepted(status, answer)

    def follow(self, target: str, body: object) -> Iterator[bytes]:
        """Begin an operation, and yield its progress until it is over: one JSON object per line. Raises as `call`."""
        connection = UnixConnection(self._state_dir.control_socket, self._timeout)
        try:
            with self._mapped_errors():
                headers = {"Content-Type": "application/json", **self._headers()}
                connection.request("POST", target, json.dumps(body), headers)
                response = connection.getresponse()
            if response.status >= 400:
                _accepted(response.status, response.read())
            connection.sock.settimeout(None)  # an operation may take any time
            with self._mapped_errors():
                yield from response
        finally:
            connection.close()

    def _headers(self) -> Mapping[str, str]:
        """Return the headers that name the sender and hold the operator's key."""
        self._state_dir.check()
        key = read_secret(self._state_dir.operator_key_path)
        return {ASKED_BY_HEADER: self._asker, OPERATOR_KEY_HEADER: key}

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        """Turn errors of the socket into NotRunningError or CommandError."""
        try:
            yield
        except (FileNotFoundError, ConnectionRefusedError):
            holder = self._state_dir.lock.holder()
            if holder is None:
                raise NotRunningError(self._what_runs()) from None
            raise CommandError(
                f"the supervisor (pid {holder}) does not listen on {self._state_dir.control_socket}: it is starting, "
                "or about to restore a socket that was removed; try again soon (`wsd stop` works in any case)"
            ) from None
        except PermissionError:
            raise CommandError(f"the cluster in {self._state_dir.root} belongs to another user") from None
        except (OSError, http.client.HTTPException) as exc:
            holder = self._state_dir.lock.holder()
            raise CommandError(f"the supervisor (pid {holder}) does not answer: {exc!r}") from None

    def _what_runs(self) -> str:
        """Describe the state directory of a supervisor that is gone."""
        alive = [record for record in self._state_dir.read_state().processes if is_alive(record, self._state_dir.root)]
        if not alive:
            return f"no cluster runs in {self._state_dir.root}"
        return (
            f"the supervisor in {self._state_dir.root} is gone, but its cluster still has "
            f"{count(len(alive), 'process')}: `wsd start` takes them over, `wsd stop` ends them"
        )


def _accepted(status: int, answer: bytes) -> bytes:
    """Return the answer of the supervisor. Raises CommandError with its reason when it is a refusal."""
    if status < 400:
        return answer
    try:
        reason = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        text = answer.decode(errors="replace")
        reason = f"the supervisor does not know this command (HTTP {status}: {text}); is it of another version of wsd?"
    raise CommandError(reason)


def wait_until_alive(state_dir: StateDir) -> None:
    """Return once the supervisor answers.

    A control socket that was removed is restored within seconds, and an upgrade opens a new one: both are waited for.

    Raises NotRunningError when no supervisor runs, and CommandError when it does not answer for ALIVE_SECONDS.
    """
    gives_up_at = time.monotonic() + ALIVE_SECONDS
    while True:
        left = gives_up_at - time.monotonic()
        try:
            ControlClient(state_dir, timeout=max(0.1, left)).call("GET", "/v1/live")
        except NotRunningError:
            raise
        except CommandError:
            if left < ALIVE_PAUSE_SECONDS:
                raise
            time.sleep(ALIVE_PAUSE_SECONDS)
        else:
            return


def upgrade_and_wait(state_dir: StateDir) -> int:
    """Replace the supervisor with the installed version, and return its pid once the cluster is up.

    Raises NotRunningError or CommandError.
    """
    client = ControlClient(state_dir)
    begun = time.monotonic()
    ControlClient(state_dir, timeout=UPGRADE_SECONDS).call("POST", "/v1/upgrade", {})
    while True:
        time.sleep(0.05)
        if state_dir.lock.holder() is None:
            raise CommandError(
                "the new supervisor has ended, and the processes of the cluster keep running; "
                f"see {state_dir.log('supervisor')}"
            )
        with contextlib.suppress(CommandError):
            seen = json.loads(client.call("GET", "/v1/status"))
            new = seen["supervisor"]["uptime_seconds"] < time.monotonic() - begun
            if new and seen["state"] in ("healthy", "degraded"):
                return int(seen["supervisor"]["pid"])
        if time.monotonic() - begun > UPGRADE_SECONDS:
            raise CommandError(
                f"the new supervisor is not up after {UPGRADE_SECONDS:g} s; see {state_dir.log('supervisor')}"
            )
