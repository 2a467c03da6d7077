"""`wsd status` as a table for people."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsd.supervisor.status import ClusterStatus, ProcessStatus, WorkerStatus

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
    "NAME", "WORKER ID", "PID", "STATE", "UPTIME", "RESTARTS", "CPU %", "RSS", "CONNS", "MSG/S IN/OUT", "BEAT", "LAG",
)  # fmt: skip
MIN_WIDTH = 140


def print_status(status: ClusterStatus) -> None:
    console = Console(highlight=False)
    # A table cut off at 80 columns hides what it is for: a pipe or a narrow terminal gets long lines.
    console.width = max(console.width, MIN_WIDTH)
    console.print(Text.assemble("wsd is ", _state(status.state), f" on node {status.node_id}, {status.url}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        right = name not in ("NAME", "WORKER ID", "STATE")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    table.add_row(*_process_cells(status.supervisor))
    for worker in status.workers:
        table.add_row(*_worker_cells(worker))
    for process in (status.nginx, status.valkey):
        if process is not None:
            table.add_row(*_process_cells(process))
    console.print(table)
    redis = status.redis
    reachable = "reachable" if redis.reachable else f"not reachable ({redis.error})"
    console.print(f"redis: {redis.url}, {reachable}" if redis.url else "redis: none", soft_wrap=True)
    if len(status.nodes) > 1:
        nodes = (f"{node.node_id}: {node.workers} workers, {node.connections} connections" for node in status.nodes)
        console.print("nodes: " + "; ".join(nodes), soft_wrap=True)
    for problem in [*status.problems, *status.warnings]:
        console.print(Text(f"! {problem}", style="yellow"), soft_wrap=True)


def _process_cells(process: ProcessStatus) -> Iterable[str | Text]:
    return (process.name, "", *_common_cells(process), "", "", "", "")


def _worker_cells(worker: WorkerStatus) -> Iterable[str | Text]:
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
    return Text(state.upper(), style=STATE_STYLES.get(state, ""))


def _number(value: float | None, form: str, unit: str = "", factor: float = 1) -> str:
    return "-" if value is None else f"{value * factor if factor != 1 else value:{form}}{unit}"


def duration(seconds: float | None) -> str:
    """`42s`, `3m12s`, `5h02m`, `3d04h`."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"
