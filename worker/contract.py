"""The whole language between supervisor and worker: environment, heartbeat, events, Redis keys, exit codes.

Standard library only: the supervisor imports this module and nothing else of the worker.
"""

import ipaddress
import json
import logging
import os
import re
import secrets
import socket
import sys
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

# Exit codes of `python -m wsd.worker`. The last line the worker printed says what happened.
EXIT_OK = 0
EXIT_STARTUP_FAILED = 3  # as uvicorn's own STARTUP_FAILURE
EXIT_BAD_APP = 4

SENSITIVE_FIELDS = ("password", "token", "secret", "api_key", "authorization", "cookie")
"""Taken out of whatever clients send to each other, unless the configuration says otherwise."""

ADMIN_ALLOW = ("127.0.0.1", "::1")
"""Addresses and networks that may ask for statistics and metrics."""


WRONG_HOST = "only by an address, as localhost, or by a name of nginx.admin_hosts"
"""Why statistics and metrics are refused, where `is_own_host` says no."""


def is_own_host(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header names this machine: by an address, as localhost, by its host name, or by one of `names`.

    A site may let its own name point here, so that its pages reach what only this machine may (DNS rebinding). Such a
    request has the site's name in its Host header.
    """
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::[0-9]{1,5})?", host.strip().lower())
    if found is None:
        return False
    name = found[1].removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        name = name.removesuffix(".")
        known = {"localhost", socket.gethostname().lower(), *(known.lower() for known in names)}
        return name in known or name.endswith(".localhost")
    return True


# What every worker answers over HTTP; nginx treats some of them apart.
HEALTH_PATH = "/health"
STATS_PATH = "/api/websocket/stats"
PUBLISH_PATH = "/api/websocket/publish"
HISTORY_PATH = "/api/websocket/history/"  # and a channel
METRICS_PATH = "/metrics"
OPERATOR_PREFIX = "/_wsd/"  # for the supervisor alone
OPERATOR_KEY_HEADER = "X-WSD-Operator-Key"

WORKER_ID = "WORKER_ID"
"""The environment variable that tells a worker its name."""

ACCEPT_GRACE_SECONDS = 0.2
"""How long a stopping worker goes on accepting after its socket has left the path nginx knows."""


def _env(name: str, default: Any = None) -> Any:
    return field(default=default, metadata={"env": name})


@dataclass(frozen=True, kw_only=True)
class WorkerEnv:
    """What a worker is told by its environment; every field has a default, so that plain uvicorn works.

    The first five names are those of the original system and keep their meaning. Times are in seconds.
    """

    worker_id: str = _env(WORKER_ID, "")
    node_id: str = _env("NODE_ID", "")
    redis_url: str = _env("REDIS_URL", "")
    distributed: bool = _env("DISTRIBUTED_WEBSOCKET_ENABLED", True)
    session_ttl: float = _env("WEBSOCKET_SESSION_TTL", 3600.0)
    trace_ttl: float = _env("WSD_WORKER_TRACE_TTL", 3600.0)  # 0: no traces
    slot: int = _env("WSD_WORKER_SLOT", 0)
    bind_path: str = _env("WSD_WORKER_BIND_PATH", "")  # unix socket of this incarnation
    public_path: str = _env("WSD_WORKER_PUBLIC_PATH", "")  # where the supervisor puts it once it is ready
    listen: str = _env("WSD_WORKER_LISTEN", "")  # host:port shared through SO_REUSEPORT, without nginx
    app: str = _env("WSD_WORKER_APP", "")
    app_directory: str = _env("WSD_WORKER_APP_DIRECTORY", "")  # to import it from, beside the current one
    heartbeat_interval: float = _env("WSD_WORKER_HEARTBEAT_INTERVAL", 1.0)
    heartbeat_ttl: float = _env("WSD_WORKER_HEARTBEAT_TTL", 5.0)
    drain: str = _env("WSD_WORKER_DRAIN", "close")  # or "wait": until the connections end, drain_seconds at most
    drain_seconds: float = _env("WSD_WORKER_DRAIN_SECONDS", 30.0)
    ping_interval: float = _env("WSD_WORKER_PING_INTERVAL", 25.0)
    ping_timeout: float = _env("WSD_WORKER_PING_TIMEOUT", 10.0)
    max_message_bytes: int = _env("WSD_WORKER_MAX_MESSAGE_BYTES", 65536)
    idle_timeout: float = _env("WSD_WORKER_IDLE_TIMEOUT", 0.0)
    max_buffer_bytes: int = _env("WSD_WORKER_MAX_BUFFER_BYTES", 1_048_576)
    max_total_buffer_bytes: int = _env("WSD_WORKER_MAX_TOTAL_BUFFER_BYTES", 268_435_456)
    write_delay: float = _env("WSD_WORKER_WRITE_DELAY", 0.0)
    compression: bool = _env("WSD_WORKER_COMPRESSION", False)
    protocol: str = _env("WSD_WORKER_PROTOCOL", "wsd")  # or "uvicorn": its own, for comparison
    redis_connect_timeout: float = _env("WSD_WORKER_REDIS_CONNECT_TIMEOUT", 1.0)
    redis_timeout: float = _env("WSD_WORKER_REDIS_TIMEOUT", 2.0)
    stand_in_url: str = _env("WSD_WORKER_STAND_IN_URL", "")  # the node's own Valkey, beside redis_url
    breaker_failures: int = _env("WSD_WORKER_BREAKER_FAILURES", 1)
    breaker_pause: float = _env("WSD_WORKER_BREAKER_PAUSE", 0.5)
    breaker_successes: int = _env("WSD_WORKER_BREAKER_SUCCESSES", 1)
    spool_messages: int = _env("WSD_WORKER_SPOOL_MESSAGES", 10_000)
    spool_bytes: int = _env("WSD_WORKER_SPOOL_BYTES", 16_777_216)
    compress_from_bytes: int = _env("WSD_WORKER_COMPRESS_FROM_BYTES", 0)
    sensitive_fields: str = _env("WSD_WORKER_SENSITIVE_FIELDS", ",".join(SENSITIVE_FIELDS))
    allowed_origins: str = _env("WSD_WORKER_ALLOWED_ORIGINS", "")
    handshake_timeout: float = _env("WSD_WORKER_HANDSHAKE_TIMEOUT", 10.0)
    max_head_bytes: int = _env("WSD_WORKER_MAX_HEAD_BYTES", 65_536)  # of a request line and all headers
    handshakes_per_second: float = _env("WSD_WORKER_HANDSHAKES_PER_SECOND", 0.0)
    handshake_burst: float = _env("WSD_WORKER_HANDSHAKE_BURST", 200.0)
    messages_per_second: float = _env("WSD_WORKER_MESSAGES_PER_SECOND", 200.0)
    message_burst: float = _env("WSD_WORKER_MESSAGE_BURST", 400.0)
    bytes_per_second: float = _env("WSD_WORKER_BYTES_PER_SECOND", 262_144.0)
    byte_burst: float = _env("WSD_WORKER_BYTE_BURST", 2_097_152.0)
    max_connections_per_user: int = _env("WSD_WORKER_MAX_CONNECTIONS_PER_USER", 0)
    admin_allow: str = _env("WSD_WORKER_ADMIN_ALLOW", ",".join(ADMIN_ALLOW))
    admin_hosts: str = _env("WSD_WORKER_ADMIN_HOSTS", "")
    operator_key: str = _env("WSD_WORKER_OPERATOR_KEY", "")
    api_key: str = _env("WSD_WORKER_API_KEY", "")
    authorize: str = _env("WSD_WORKER_AUTHORIZE", "")
    channels: str = _env("WSD_WORKER_CHANNELS", "")  # JSON: options by pattern
    authenticate: str = _env("WSD_WORKER_AUTHENTICATE", "")
    jwt_secret: str = _env("WSD_WORKER_JWT_SECRET", "")
    jwt_public_key_file: str = _env("WSD_WORKER_JWT_PUBLIC_KEY_FILE", "")
    jwt_public_key_digest: str = _env("WSD_WORKER_JWT_PUBLIC_KEY_DIGEST", "")  # another key is another environment
    jwt_jwks_file: str = _env("WSD_WORKER_JWT_JWKS_FILE", "")
    jwt_algorithms: str = _env("WSD_WORKER_JWT_ALGORITHMS", "HS256")
    jwt_audience: str = _env("WSD_WORKER_JWT_AUDIENCE", "")
    jwt_issuer: str = _env("WSD_WORKER_JWT_ISSUER", "")
    jwt_user_claim: str = _env("WSD_WORKER_JWT_USER_CLAIM", "sub")
    jwt_username_claim: str = _env("WSD_WORKER_JWT_USERNAME_CLAIM", "name")
    log_level: str = _env("WSD_WORKER_LOG_LEVEL", "info")
    log_format: str = _env("WSD_WORKER_LOG_FORMAT", "text")  # or "json"
    events_path: str = _env("WSD_WORKER_EVENTS_PATH", "")  # the node's file of events, see Event

    @property
    def authenticates(self) -> bool:
        """Whether the settings say how clients are authenticated."""
        return bool(self.authenticate or self.jwt_secret or self.jwt_public_key_file or self.jwt_jwks_file)

    def to_env(self) -> dict[str, str]:
        """The variables to start a worker with; `from_env` of them gives the same record."""
        return {f.metadata["env"]: _to_text(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the record; unset names mean the defaults.

        WORKER_ID is then `worker-<pid>-<4 hex>`: pids alone repeat, over time and from container to container. One that
        several processes inherit (uvicorn --workers) gets the pid of each.

        Raises ValueError that names the variable and its value.
        """
        values: dict[str, Any] = {}
        for f in fields(cls):
            name = f.metadata["env"]
            if name in environ:
                values[f.name] = _from_text(name, environ[name], type(f.default))
        worker_id = values.get("worker_id")
        if not worker_id:
            worker_id = f"worker-{os.getpid()}-{secrets.token_hex(2)}"
        elif not re.fullmatch(r"[\w.:-]{1,128}", worker_id):
            raise ValueError(f"WORKER_ID may hold letters, digits and . : _ - only, got {worker_id!r}")
        elif _is_one_of_many():
            worker_id = f"{worker_id}-{os.getpid()}"
        values["worker_id"] = worker_id
        values["node_id"] = values.get("node_id") or socket.gethostname()
        return cls(**values)


def _is_one_of_many() -> bool:
    """Whether multiprocessing started this process, which then shares its environment with its siblings."""
    process = sys.modules.get("multiprocessing.process")  # loaded in such a process, and costly to load elsewhere
    return process is not None and process.parent_process() is not None


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_text(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.strip().lower() in ("1", "true", "yes", "on"):
            return True
        if text.strip().lower() in ("0", "false", "no", "off"):
            return False
        raise ValueError(f"{name} must be true or false, got {text!r}")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None


INTERNAL_ENV_NAMES = frozenset(
    f.metadata["env"] for f in fields(WorkerEnv) if f.metadata["env"].startswith("WSD_WORKER_")
)
"""Names that only a supervisor sets; people set the keys of wsd.toml."""


class WorkerState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a worker says about itself every second, in Redis and in its /health. Counters start at 0."""

    worker_id: str
    node_id: str
    slot: int
    pid: int
    beat: int  # counts up; a supervisor sees life by its change, whatever the clocks say
    uptime: float  # seconds on the worker's monotonic clock, for rates
    state: WorkerState
    connections: int
    messages_in: int
    messages_out: int
    loop_lag: float  # seconds, the worst since the last beat
    rss: int  # bytes
    redis: bool  # the worker can talk to Redis, and hears the others through it
    deaf: bool = False  # it can talk to Redis, and hears nothing, whatever it tried
    refused: int = 0  # messages that Redis did not take

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ValueError when the text is not a heartbeat; fields of newer workers are ignored."""
        return cls._from_raw(_decoded(text))

    @classmethod
    def from_health(cls, body: bytes) -> Self:
        """The record in a worker's answer to GET /health. Raises ValueError."""
        answer = _decoded(body)
        return cls._from_raw(answer.get("heartbeat") if isinstance(answer, dict) else None)

    @classmethod
    def _from_raw(cls, raw: Any) -> Self:
        try:
            known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw or f.default is MISSING}
        except (TypeError, KeyError) as exc:
            raise ValueError(f"not a heartbeat: {exc!r}") from None
        known["state"] = WorkerState(known["state"])
        _check_types(cls, known)
        return cls(**known)


MAX_NUMBER = 2**53
"""Larger numbers are in no record of ours, and do not survive the way through a float."""

LAST_SECOND = 253_370_764_800
"""The first of January 9999. Calendars end soon after."""


def _decoded(text: str | bytes) -> Any:
    """Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def _check_types(record: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError where a value has not the type of the field of this dataclass."""
    for known in fields(record):
        value = values.get(known.name, known.default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = is_number if known.type is float else isinstance(value, known.type)  # type: ignore[arg-type]
        if known.type is int:
            fits = fits and is_number
        if not fits or (is_number and not -MAX_NUMBER <= value <= MAX_NUMBER):
            raise ValueError(f"{known.name} is not of the type {known.type}")


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to the cluster, for people: a line in a file to which every process of it appends."""

    at: float  # seconds since the epoch
    source: str  # supervisor, worker-2
    level: str  # info, warning, error, critical
    text: str

    def to_json(self) -> str:
        return to_json(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ValueError when the text is not an event; fields of newer versions are ignored."""
        raw = _decoded(text)
        try:
            known = {f.name: raw[f.name] for f in fields(cls)}
        except (TypeError, KeyError) as exc:
            raise ValueError(f"not an event: {exc!r}") from None
        _check_types(cls, known)
        if not 0 <= known["at"] <= LAST_SECOND:
            raise ValueError("not an event: nobody can say its time")
        return cls(**known)


EVENT = {"event": True}
"""`extra` of a log record below a warning that people should see as an event, too."""

MAX_EVENTS_PER_SECOND = 20
"""Of one process; what a storm has beyond that is in its log."""


class EventHandler(logging.Handler):
    """Appends wsd's warnings, and what is marked as EVENT, to the file of events."""

    def __init__(self, path: str, source: str) -> None:
        super().__init__()
        self._path = path
        self._source = source
        self._second = 0
        self._written = 0
        self._is_cut = False  # the last line was, by a full disk

    def filter(self, record: logging.LogRecord) -> bool:
        is_event = record.levelno >= logging.WARNING or getattr(record, "event", False)
        return is_event and record.name.startswith("wsd.") and self._within_rate(int(record.created))

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        event = Event(at=record.created, source=self._source, level=record.levelname.lower(), text=text)
        try:
            # Opened anew each time, as it may have been rotated; one write() with O_APPEND is one whole line.
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # it is in the log all the same
        begin = "\n" if self._is_cut else ""
        line = f"{begin}{event.to_json()}\n".encode("utf-8", "backslashreplace")
        try:
            self._is_cut = os.write(fd, line) < len(line)
        except OSError:
            return
        finally:
            os.close(fd)

    def _within_rate(self, second: int) -> bool:
        if second != self._second:
            self._second, self._written = second, 0
        self._written += 1
        return self._written <= MAX_EVENTS_PER_SECOND


MAX_MARKS = 4
"""Combining marks on one character; no script needs more, and hundreds of them cover the lines around."""

# Characters that count as printable and show nothing: fillers, blanks, and selectors that can carry hidden text.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U00016fe4\U0001d159"
    "\U000e0100-\U000e01ef]"
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escape(text: str, keep: str = "") -> str:
    """Return the text with every character visible that is not: `\\x1b`, `\\u202e`, `\\U000e0041`.

    Escaped are what `repr` escapes (control, format, private and unassigned characters, surrogates, and separators
    other than the space), blank characters, and more than MAX_MARKS combining marks in a row. Joiners are format
    characters, so two names that differ look different. `keep` holds characters that are not escaped.
    """
    if text.isascii() and text.isprintable():
        return text
    marks = MAX_MARKS  # a mark at the beginning would stand on what is printed before the text
    found = []
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if character in keep:
            found.append(character)
        elif not character.isprintable() or marks > MAX_MARKS or _BLANK.match(character):
            found.append(_escaped(character))
        else:
            found.append(character)
    return "".join(found)


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that was not UTF-8 (PEP 383)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_json(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """Return JSON in printable ASCII: a terminal carries out nothing that is in it."""
    return json.dumps(value, indent=indent, separators=separators).replace("\x7f", "\\u007f")


class LineFormatter(logging.Formatter):
    """A log record as one line; the further lines of a text or a traceback are indented, so that none looks like a
    record of its own."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(escape(line, keep="\t") for line in super().format(record).split("\n"))


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON."""

    def __init__(self, **always: str) -> None:
        """`always`: fields of every line."""
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._always,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return to_json(fields)


# Redis keys. The braces are Redis Cluster's hash tag: keys that one script touches share a slot. A user id may have any
# character. Of two texts in one key the second has no brace: the last brace ends the first, so no pairs meet.
LIVE_WORKERS_KEY = "{wsd}:workers"  # sorted set: worker id by the time its heartbeat expires (ms)


def heartbeat_key(worker_id: str) -> str:
    return "{wsd}:worker:" + worker_id


def probe_key(channel: str) -> str:
    """Return the key by which the worker with this channel of its own sees that Redis takes what is written."""
    return "{wsd}:probe:" + channel


def node_key(node_id: str) -> str:
    """The lease by which a NODE_ID is live once only."""
    return "{wsd}:node:" + node_id


SESSIONS_KEY = "{wsd}:sessions"  # sorted set: all session ids by when they expire (seconds since the epoch)
SESSION_WORKERS_KEY = "{wsd}:session_workers"  # set: worker ids that have, or had, sessions
CLEANUP_KEY = "{wsd}:session_cleanup"  # lease: the worker that cleans up now


def session_key(session_id: str) -> str:
    return "ws_session:" + session_id


def user_sessions_key(user_id: str) -> str:
    """Sorted set, as SESSIONS_KEY, of one user."""
    return "ws_user_sessions:" + user_id


def worker_sessions_key(worker_id: str) -> str:
    """Sorted set, as SESSIONS_KEY, of one worker."""
    return "ws_worker_sessions:" + worker_id


def worker_channel(worker_id: str) -> str:
    """The pub/sub channel that one worker alone hears. No client can name it: theirs begin with ws_channel."""
    return "ws_worker:{" + worker_id + "}"


EVERY_WORKER = "ws_workers"
"""The pub/sub channel that all workers hear."""

BROADCAST = "broadcast"
"""The name of the channel that every connection hears; no client may use it for another."""

DIRECT = "direct"
"""The name that a client's own channel has for it, the one with messages to its user alone."""

USER_PREFIX = "!"
"""No client can name such a channel."""


def user_channel(user_id: str) -> str:
    """The name of the channel that carries the messages to one user."""
    return USER_PREFIX + user_id


CHANNEL_PREFIX = "ws_channel:{"


def channel_key(channel: str) -> str:
    """The pub/sub channel that carries a channel's messages between workers."""
    return CHANNEL_PREFIX + channel + "}"


def channel_of(key: str) -> str:
    """The reverse of `channel_key`."""
    return key[len(CHANNEL_PREFIX) : -1]


def history_key(channel: str) -> str:
    """Stream: the latest messages of a channel; an entry's id is its offset."""
    return "ws_history:{" + channel + "}"


def history_meta_key(channel: str) -> str:
    """Hash: epoch and top offset of a channel, and the last number of each worker that publishes there."""
    return "ws_history_meta:{" + channel + "}"


def idempotency_key(channel: str, stored_key: str) -> str:
    """String: the position that a message with an idempotency key got. `stored_key`: see `message_names`."""
    return "ws_idempotency:{" + channel + "}:" + stored_key


def receipts_key(channel: str, epoch: str) -> str:
    """Sorted set: user id by the highest offset that one of its connections has confirmed."""
    return "ws_receipts:{" + channel + "}:" + epoch


def presence_key(channel: str, worker_id: str) -> str:
    """Hash: the members of a channel on one worker."""
    return "ws_presence:{" + channel + "}:" + worker_id


def presence_workers_key(channel: str) -> str:
    """Sorted set: ids of workers with members of a channel, by when their entry expires (seconds since the epoch)."""
    return "ws_presence:{" + channel + "}"


def trace_key(session_id: str) -> str:
    """List: what became of the connections of a session, see the worker's `flight_recorder`."""
    return "ws_trace:" + session_id


def user_traces_key(user_id: str) -> str:
    """Sorted set: session ids of a user by when a connection of theirs ended last (seconds since the epoch)."""
    return "ws_user_traces:" + user_id


def user_connections_key(user_id: str) -> str:
    """Sorted set: `<worker id> <session id>` of a user's connections, by when each was last seen."""
    return "ws_user_connections:" + user_id
