"""HTTP over a unix socket: how `wsd` talks to its supervisor, and the supervisor to its workers."""

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

from wsd.supervisor.errors import NotRunningError, WsdError
from wsd.supervisor.state_dir import StateDir

STOP_MARGIN_SECONDS = 20.0
"""What nginx, Valkey and the escalation to SIGKILL may take when a cluster stops."""


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(path: Path, method: str, target: str, timeout: float, body: object = None) -> tuple[int, bytes]:
    """One request, its status and body. Raises OSError (TimeoutError among them) or http.client.HTTPException."""
    connection = UnixConnection(path, timeout)
    try:
        payload = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, target, payload, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class ControlClient:
    """The supervisor's control API, as a client sees it."""

    def __init__(self, state_dir: StateDir, timeout: float = 5.0) -> None:
        self._state_dir = state_dir
        self._timeout = timeout

    def call(self, method: str, target: str, body: object = None) -> bytes:
        """Raises NotRunningError when no supervisor is there, WsdError when it refuses or does not answer."""
        try:
            status, answer = request(self._state_dir.control_socket, method, target, self._timeout, body)
        except (FileNotFoundError, ConnectionRefusedError):
            holder = self._state_dir.lock_holder()
            if holder is None:
                raise NotRunningError(f"no cluster runs in {self._state_dir.root}") from None
            raise WsdError(f"the supervisor (pid {holder}) does not listen yet; try again") from None
        except PermissionError:
            raise WsdError(f"the cluster in {self._state_dir.root} belongs to another user") from None
        except (OSError, http.client.HTTPException) as exc:
            holder = self._state_dir.lock_holder()
            raise WsdError(f"the supervisor (pid {holder}) does not answer: {exc!r}") from None
        if status >= 400:
            raise WsdError(f"the supervisor refused {method} {target}: {_reason(answer)}")
        return answer


def stop_and_wait(state_dir: StateDir, patience: float | None) -> None:
    """Ask the supervisor to stop, and wait until its lock is free. `patience`: seconds for the drain.

    Raises NotRunningError, or WsdError when it is still there long after it said it would be gone.
    """
    answer = json.loads(ControlClient(state_dir).call("POST", "/v1/stop", {"timeout": patience}))
    deadline = time.monotonic() + answer["seconds"] + STOP_MARGIN_SECONDS
    while (holder := state_dir.lock_holder()) is not None:
        if time.monotonic() > deadline:
            raise WsdError(f"the supervisor (pid {holder}) is still there; see {state_dir.log('supervisor')}")
        time.sleep(0.05)


def _reason(answer: bytes) -> Any:
    try:
        return json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")
