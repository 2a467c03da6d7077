"""The table that `wsd status` prints."""

from collections.abc import Sequence

from rich.text import Text

from wsd.supervisor.cli import fitted_table
from wsd.supervisor.cli.duration import duration
from wsd.supervisor.cli.fitted_table import Column
from wsd.supervisor.control.status import (
    AutoscalingStatus,
    ClusterStatus,
    NodeStatus,
    ProcessStatus,
    RelayProcessStatus,
    WorkerStatus,
)
from wsd.supervisor.counts import count
from wsd.supervisor.machine.terminal import console, shown

STATE_STYLES = {
    "ready": "green",
    "running": "green",
    "healthy": "green",
    "starting": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "degraded": "yellow",
    "backoff": "red",
    "failed": "bold red",
}
COLUMNS = (
    Column("NAME"),
    Column("WORKER ID", 9),
    Column("PID", 7, right=True),
    Column("STATE"),
    Column("UPTIME", 4, right=True),
    Column("RESTARTS", 5, right=True),
    Column("CPU %", 2, right=True),
    Column("RSS", 3, right=True),
    Column("CONNS", 1, right=True),
    Column("MSG/S IN/OUT", 3, right=True),
    Column("BEAT", 8, right=True),
    Column("LAG", 6, right=True),
)


def print_status(status: ClusterStatus) -> None:
    _line(Text.assemble("wsd is ", _state(status.state), shown(f" on node {status.node_id}, {status.url}")))
    rows = [_process_cells(status.supervisor), *map(_worker_cells, status.workers)]
    others = (status.nginx, status.valkey, status.relay)
    rows += [_process_cells(process) for process in others if process is not None]
    fitted_table.print_table(COLUMNS, rows)
    redis = status.redis
    reachable = "reachable" if redis.reachable else f"not reachable ({redis.error})"
    primary = f", primary {redis.primary}" if redis.primary else ""
    _line(Text(shown(f"redis: {redis.url}{primary}, {reachable}" if redis.url else "redis: none")))
    if status.relay is not None:
        _line(Text(shown(f"outbox: {_outbox(status.relay)}")))
        if status.relay.archive:
            _line(Text(shown(f"archive: {_archive(status.relay)}")))
    if status.dashboard_url:
        _line(Text(shown(f"dashboard: {status.dashboard_url}")))
    if status.autoscaling is not None:
        _line(Text(shown(f"autoscaling: {_autoscaling(status.autoscaling)}")))
    if len(status.nodes) > 1:
        _line(Text(shown("nodes: " + "; ".join(map(_node, status.nodes)))))
    for problem in [*status.problems, *status.warnings]:
        _line(Text(shown(f"! {problem}"), "yellow"))


def _outbox(relay: RelayProcessStatus) -> str:
    if relay.problem or not relay.active:
        return relay.problem or "stands by, another node publishes"
    return f"{count(relay.waiting, 'row')} waiting, {relay.published} published"


def _archive(relay: RelayProcessStatus) -> str:
    if relay.archive_problem or not relay.archive_active:
        return relay.archive_problem or "stands by, another node writes"
    lost = f", {relay.archive_lost} lost" if relay.archive_lost else ""
    return f"{count(relay.archive_waiting, 'channel')} waiting, {relay.archived} messages written{lost}"


def _node(node: NodeStatus) -> str:
    return f"{node.node_id}: {count(node.workers, 'worker')}, {count(node.connections, 'connection')}"


def _autoscaling(scaling: AutoscalingStatus) -> str:
    parts = [f"{scaling.min} to {count(scaling.max, 'worker')}"]
    if scaling.last is not None:
        parts.append(f"the last change was {scaling.last}")
    if scaling.waits_for is not None:
        parts.append(f"waits because {scaling.waits_for}")
    return "; ".join(parts)


def _line(text: Text) -> None:
    console().print(text, soft_wrap=True)


def _process_cells(process: ProcessStatus) -> Sequence[str | Text]:
    return (process.name, "", *_common_cells(process), "", "", "", "")


def _worker_cells(worker: WorkerStatus) -> Sequence[str | Text]:
    rates = (worker.messages_in_per_second, worker.messages_out_per_second)
    return (
        worker.name,
        worker.worker_id or "-",
        *_common_cells(worker),
        _number(worker.connections, ""),
        "/".join(_number(rate, ".0f") for rate in rates),
        _number(worker.heartbeat_age_seconds, ".1f", " s"),
        _number(worker.loop_lag_seconds, ".1f", " ms", 1000),
    )


def _common_cells(process: ProcessStatus) -> tuple[str | Text, ...]:
    return (
        _number(process.pid, ""),
        _state(process.state),
        duration(process.uptime_seconds),
        str(process.restarts),
        _number(process.cpu_percent, ".1f"),
        _number(process.rss_bytes, ".0f", " MB", 1 / 1_000_000),
    )


def _state(state: str) -> Text:
    return Text(shown(state.upper()), style=STATE_STYLES.get(state, ""))


def _number(value: float | None, form: str, unit: str = "", factor: float = 1) -> str:
    return "-" if value is None else f"{value * factor if factor != 1 else value:{form}}{unit}"
