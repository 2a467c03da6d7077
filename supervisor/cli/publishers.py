"""The publisher with which commands reach the channels of a cluster: the local one, or another by its URL."""

import contextlib
import errno
import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from wsd.publisher import Publisher, PublishError
from wsd.publisher.address import URL_VARIABLE
from wsd.publisher.connections import Connections
from wsd.publisher.sender import RETRY_FOR_SECONDS, TIMEOUT_SECONDS, Sender
from wsd.supervisor.cli.options import find_state_dir
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.private_files import read_secret
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.unix_http import UnixConnection
from wsd.worker.contract.http_paths import HEALTH_PATH, OPERATOR_KEY_HEADER

WRONG_REQUEST = frozenset({400, 401, 403, 404, 413})
"""HTTP statuses of a request that would be refused again."""


class LocalPublisher(Publisher):
    """A publisher for the operator of a local cluster. It needs no API key, and asks the workers on their sockets."""

    def __init__(self, state_dir: StateDir, *, retry_for: float) -> None:
        """Look for a worker that serves. Raises NotRunningError or CommandError if there is none."""
        _check(state_dir)
        connections = Connections(lambda: _connect(state_dir), "", lambda: _headers(state_dir))
        name = f"the cluster in {state_dir.root}"
        self._sender = Sender(connections, name, "; see `wsd status`", timeout=TIMEOUT_SECONDS, retry_for=retry_for)


def publisher(
    url: str | None,
    api_key: str | None,
    config: str | None,
    state_dir: str | None,
    *,
    retry_for: float = RETRY_FOR_SECONDS,
) -> Publisher:
    """Return a publisher for the cluster that the options of a command name.

    Without --url, --config and --state-dir it is the cluster that WSD_URL names, or else the local one.

    Raises ConfigError, NotRunningError or CommandError.
    """
    is_local = config is not None or state_dir is not None
    if url and is_local:
        raise ConfigError("--url is for another cluster than --config and --state-dir: give one of them")
    url = url or (None if is_local else os.environ.get(URL_VARIABLE))
    if url:
        try:
            return Publisher(url, api_key, retry_for=retry_for)
        except ValueError as exc:
            raise ConfigError(str(exc)) from None
    if api_key:
        raise ConfigError(f"--api-key needs --url or {URL_VARIABLE}; the local cluster needs no key")
    return LocalPublisher(find_state_dir(config, state_dir), retry_for=retry_for)


@contextlib.contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn the errors of a publisher into those of a command."""
    try:
        yield
    except PublishError as exc:
        raise (ConfigError if exc.status in WRONG_REQUEST else CommandError)(str(exc)) from None
    except ValueError as exc:
        raise ConfigError(str(exc)) from None


def _headers(state_dir: StateDir) -> Mapping[str, str]:
    """Return the header with the operator's key. A cluster that is started again has another one."""
    return {OPERATOR_KEY_HEADER: read_secret(state_dir.operator_key_path)}


def _check(state_dir: StateDir) -> None:
    """Check that a worker serves, and that it knows the others. Raises NotRunningError or CommandError."""
    try:
        mode = _mode(state_dir)
    except (OSError, HTTPException) as exc:
        ControlClient(state_dir).call("GET", "/v1/status")  # says better what is wrong
        raise CommandError(f"no worker answers in {state_dir.root} ({exc}); see `wsd status`") from None
    if mode == "memory" and len(_sockets(state_dir)) > 1:
        raise CommandError("without Redis every worker stands alone, and none knows the channels of the others")


def _sockets(state_dir: StateDir) -> list[Path]:
    """Return the sockets of the workers that serve, or have served."""
    return [path for path in state_dir.sockets.glob("worker-*.sock") if re.fullmatch(r"worker-\d+\.sock", path.name)]


def _mode(state_dir: StateDir) -> str:
    """Return by which way a worker reaches the others. Raises OSError or HTTPException."""
    with contextlib.closing(_connect(state_dir)) as connection:
        connection.request("GET", HEALTH_PATH)
        return str(json.loads(connection.getresponse().read())["websocket"]["mode"])


def _connect(state_dir: StateDir) -> HTTPConnection:
    """Return a connection to one of the workers that serve. Raises OSError if there is none."""
    sockets = _sockets(state_dir)
    for path in random.sample(sockets, len(sockets)):
        connection = UnixConnection(path, TIMEOUT_SECONDS)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            connection.connect()
            return connection
        connection.close()
    raise ConnectionRefusedError(errno.ECONNREFUSED, "no worker serves")
