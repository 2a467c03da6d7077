"""Name every key and every pub/sub channel that wsd uses in Redis.

The braces are the hash tags of Redis Cluster: keys that one script touches have the same tag, and so share a slot. A
user id or channel may hold any character, so it always comes last or in the braces. Where a key holds two texts, the
second has no brace. The last closing brace then ends the first text, and no two pairs of texts have the same key.
"""

LIVE_WORKERS_KEY = "{wsd}:workers"
"""Sorted set: worker ids by the time when the heartbeat of each expires (milliseconds since the epoch)."""


def heartbeat_key(worker_id: str) -> str:
    """Name the string with the latest heartbeat of a worker, as JSON."""
    return "{wsd}:worker:" + worker_id


def probe_key(channel: str) -> str:
    """Name the string that the worker with this channel of its own writes, to see whether Redis accepts writes."""
    return "{wsd}:probe:" + channel


def node_key(node_id: str) -> str:
    """Name the lease of a node, which keeps a second node from running with the same NODE_ID.

    Its value is what the node tells about itself.
    """
    return "{wsd}:node:" + node_id


NODES_KEY = "{wsd}:nodes"
"""Sorted set: node ids by the time when the lease of each ends (milliseconds since the epoch)."""


def node_inbox_key(inbox: str) -> str:
    """Name the list of the signed requests of other nodes to one supervisor."""
    return "{wsd}:node_inbox:" + inbox


def node_answer_key(request_id: str) -> str:
    """Name the list of the signed lines of the answer to a request to a node."""
    return "{wsd}:node_answer:" + request_id


ARCHIVE_KEY = "{wsd}:archive"
"""Sorted set: the archived channels with messages that PostgreSQL may not have yet.

The score of a channel is the time of its last message, by the clock of its worker (microseconds since the epoch).
"""


SESSIONS_KEY = "{wsd}:sessions"
"""Sorted set: the ids of all sessions by the time when each expires (seconds since the epoch)."""

SESSION_WORKERS_KEY = "{wsd}:session_workers"
"""Set: the ids of workers that have sessions, or had some."""

CLEANUP_KEY = "{wsd}:session_cleanup"
"""Lease: the worker that removes expired sessions now."""


EVENT_SESSIONS_KEY = "{wsd}:event_sessions"
"""Sorted set: the ids of the sessions whose end is still to be told, by the time when to look whether each has expired.

The time is in seconds since the epoch. All keys of events share a hash tag, since one script changes them together.
"""


def event_session_key(session_id: str) -> str:
    """Name the hash with what the events of a session say about it, and the channels that it is in."""
    return "{wsd}:event_session:" + session_id


def events_key(reader: str) -> str:
    """Name the stream of the events that a reader (`functions` or `webhooks`) has not handled yet."""
    return "{wsd}:events:" + reader


def dropped_events_key(reader: str) -> str:
    """Name the counter of events that were dropped, because too many waited for a reader."""
    return "{wsd}:events_dropped:" + reader


def events_lease_key(reader: str) -> str:
    """Name the lease of the worker that handles the events of a reader now."""
    return "{wsd}:events_lease:" + reader


def session_key(session_id: str) -> str:
    """Name the hash with the fields of a session."""
    return "ws_session:" + session_id


def user_sessions_key(user_id: str) -> str:
    """Name the sorted set of the session ids of one user, by the time when each expires (seconds since the epoch)."""
    return "ws_user_sessions:" + user_id


def worker_sessions_key(worker_id: str) -> str:
    """Name the sorted set of the session ids of one worker, by the time when each expires (seconds since the epoch)."""
    return "ws_worker_sessions:" + worker_id


def worker_channel(worker_id: str) -> str:
    """Name the pub/sub channel that only one worker subscribes to.

    No client can name it, since the channels of clients begin with `ws_channel`.
    """
    return "ws_worker:{" + worker_id + "}"


EVERY_WORKER = "ws_workers"
"""The pub/sub channel that all workers subscribe to."""

CHANNEL_PREFIX = "ws_channel:{"


def channel_key(channel: str) -> str:
    """Name the pub/sub channel that carries the messages of a channel between workers."""
    return CHANNEL_PREFIX + channel + "}"


def channel_of(key: str) -> str:
    """Return the name of the channel from its pub/sub channel. This is the reverse of `channel_key`."""
    return key[len(CHANNEL_PREFIX) : -1]


def history_key(channel: str) -> str:
    """Name the stream with the latest messages of a channel. The id of an entry is its offset."""
    return "ws_history:{" + channel + "}"


def history_meta_key(channel: str) -> str:
    """Name the hash with the epoch and top offset of a channel, and the last number of each worker that published."""
    return "ws_history_meta:{" + channel + "}"


def idempotency_key(channel: str, stored_key: str) -> str:
    """Name the string with the position of a message that had an idempotency key. See `idempotency.stored_key`."""
    return "ws_idempotency:{" + channel + "}:" + stored_key


def receipts_key(channel: str, epoch: str) -> str:
    """Name the sorted set of user ids, by the highest offset that a connection of each user has confirmed."""
    return "ws_receipts:{" + channel + "}:" + epoch


def presence_key(channel: str, worker_id: str) -> str:
    """Name the hash with the members of a channel on one worker."""
    return "ws_presence:{" + channel + "}:" + worker_id


def presence_workers_key(channel: str) -> str:
    """Name the sorted set of the workers that have members of a channel, by the time when the entry of each expires.

    The time is in seconds since the epoch.
    """
    return "ws_presence:{" + channel + "}"


def trace_key(session_id: str) -> str:
    """Name the list with the record of each connection of a session, see `delivery.connection_record`."""
    return "ws_trace:" + session_id


def user_traces_key(user_id: str) -> str:
    """Name the sorted set of a user's session ids, by the time when a connection of each ended last.

    The time is in seconds since the epoch.
    """
    return "ws_user_traces:" + user_id


def user_connections_key(user_id: str) -> str:
    """Name the sorted set of a user's connections (`<worker id> <session id>`), by the time when each was last seen.

    The time is in seconds since the epoch.
    """
    return "ws_user_connections:" + user_id
