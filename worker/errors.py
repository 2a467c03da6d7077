"""The errors that the worker raises on purpose."""

from enum import Enum, auto

from wsd.worker.contract.errors import WsdError


class WorkerError(WsdError):
    """The base of the worker's errors."""


class RedisFailure(Enum):
    """The reason why Redis did not carry out a request."""

    NO_ANSWER = auto()
    """The connection was lost, or no answer came in time."""

    UNUSABLE = auto()
    """Redis can carry out nothing at present: it loads its data, runs a script, or its cluster is down, for example."""

    READ_ONLY = auto()
    """Redis is a replica. A new connection to the same address may reach the primary by now."""

    REJECTED = auto()
    """Redis is usable, and rejects this one request: its memory is full, or a key holds another type, for example."""


class TooManyConnectionsError(WorkerError):
    """A user has as many connections as `security.max_connections_per_user` allows. Raised by `connect`.

    Its text may be shown to the client. While Redis is away, each worker counts only its own connections of the user.
    """


class ConnectionEndedError(WorkerError):
    """A WebSocket ended before its client had its session back. Raised by `connect`, and the session stays as it is."""


class ChannelFullError(WorkerError):
    """A channel has as many members on this worker as its option `max_members` allows. Raised by `join`.

    Its text may be shown to the client.
    """


class RedisUnavailableError(WorkerError):
    """Redis did not carry out a request: it is away, or it rejected this one request (`rejected`).

    Of the manager's methods, `history` and `read_by` raise it. Publishing does not: messages wait for Redis.

    Its text is for logs, since it may name commands, scripts and keys. `public_reason` may be shown to clients.
    """

    def __init__(
        self,
        reason: str,
        failure: RedisFailure = RedisFailure.NO_ANSWER,
        *,
        public_reason: str = "Redis refuses it",
    ) -> None:
        super().__init__(reason)
        self.failure = failure
        self.public_reason = public_reason

    @property
    def rejected(self) -> bool:
        """True if Redis rejected this one request. Redis is not away then, and repeating the request would not help."""
        return self.failure is RedisFailure.REJECTED

    @property
    def unusable(self) -> bool:
        """True if Redis answered that it can carry out nothing at present. It counts as away.

        After a failover, or in a while, the same request may succeed.
        """
        return self.failure in (RedisFailure.UNUSABLE, RedisFailure.READ_ONLY)


class ArchiveUnavailableError(WorkerError):
    """The archive in PostgreSQL did not answer, or did not lately. Its text is for logs."""


class NotStoredError(WorkerError):
    """Redis rejected a message, because its memory is full for example. Raised by `publish` and the like.

    Nobody received the message, and it is not sent again: the application may try again later. Its text may be shown to
    clients. While Redis is away this is not raised: messages then wait for Redis.
    """
