"""Name every key and every pub/sub channel that wsd uses in Redis."""

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
    """String: the position that a message with an idempotency key got. `stored_key`: see `idempotency`."""
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
