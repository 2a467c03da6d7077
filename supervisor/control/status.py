"""The records of the control API, which `wsd status --json` prints. They are documented in docs/status.md."""

from msgspec import Struct


class ProcessStatus(Struct, frozen=True, kw_only=True):
    """A process of the cluster. Fields that are unknown or do not apply are null."""

    name: str
    state: str
    pid: int | None = None
    uptime_seconds: float | None = None
    restarts: int = 0
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    last_exit: str | None = None


class WorkerStatus(ProcessStatus, frozen=True, kw_only=True):
    slot: int
    worker_id: str | None = None
    connections: int | None = None
    messages_in_per_second: float | None = None
    messages_out_per_second: float | None = None
    heartbeat_age_seconds: float | None = None
    loop_lag_seconds: float | None = None


class RelayProcessStatus(ProcessStatus, frozen=True, kw_only=True):
    """The relay, which publishes the outbox of PostgreSQL. One relay of the cluster is active, the others stand by."""

    active: bool = False
    problem: str = ""  # why it cannot publish
    waiting: int = 0  # rows that wait, counted up to 100,000; 0 for a relay that stands by, like the next two
    oldest_seconds: float = 0.0  # how long ago the row that comes next was inserted
    set_aside: int = 0  # rows that cannot be published as they are
    published: int = 0  # since the relay started
    archive: bool = False  # whether a channel is archived; the next ones are 0 otherwise, and for one that stands by
    archive_active: bool = False
    archive_problem: str = ""  # why nothing can be archived now
    archive_waiting: int = 0  # channels with messages that are not archived yet
    archive_oldest_seconds: float = 0.0  # how long the first of them waits
    archived: int = 0  # messages since the relay started
    archive_lost: int = 0  # messages that Redis had forgotten before they were archived, since the relay started


class RedisStatus(Struct, frozen=True, kw_only=True):
    """The Redis that the workers share, as the supervisor sees it."""

    url: str | None  # without its password; null where the cluster has no Redis
    embedded: bool
    reachable: bool
    error: str | None = None
    primary: str | None = None  # host:port of the primary that the Sentinels name; null where the URL names none


class NodeStatus(Struct, frozen=True, kw_only=True):
    """A node that shares the Redis with this one, as it described itself there `age_seconds` ago.

    A node that did not end properly is listed as gone for ten minutes. Of a node of an earlier version, only the
    heartbeats of its workers are known.
    """

    node_id: str
    state: str = "unknown"  # starting, healthy, degraded, stopping, gone, unknown
    workers: int = 0
    ready: int | None = None  # how many of its workers serve
    connections: int = 0
    problems: list[str] = []
    version: str = ""
    host: str = ""
    websocket_url: str = ""
    state_dir: str = ""
    age_seconds: float | None = None  # since it wrote this; for a node that is gone, since then
    takes_requests: bool = False  # of other nodes: it has a cluster.cluster_key
    is_this_node: bool = False
    is_on_this_machine: bool = False


class AutoscalingStatus(Struct, frozen=True, kw_only=True):
    """The limits between which the number of workers follows their load, and what was decided last."""

    min: int
    max: int
    connections_per_worker: int | None = None  # the load that a worker is meant to have
    cpu: float | None = None
    waits_for: str | None = None
    last: str | None = None


class ClusterStatus(Struct, frozen=True, kw_only=True):
    version: int = 1
    state: str  # starting, healthy, degraded, stopping
    problems: list[str]  # why the cluster is degraded, one line each
    warnings: list[str] = []  # what will go wrong unless somebody acts, one line each
    operation: str | None = None  # the operation under way, with its last line of progress
    node_id: str
    url: str
    websocket_url: str
    dashboard_url: str = ""  # with its token, unless dashboard.token is set; empty where there is no dashboard
    state_dir: str
    supervisor: ProcessStatus
    workers: list[WorkerStatus]
    nginx: ProcessStatus | None
    valkey: ProcessStatus | None
    relay: RelayProcessStatus | None = None  # null without postgres.url
    redis: RedisStatus
    nodes: list[NodeStatus] = []  # this node among them; empty while Redis does not answer
    connections_possible: int = 0
    autoscaling: AutoscalingStatus | None = None  # null where scale.max is 0
