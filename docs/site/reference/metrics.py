"""The page of all metrics, from what collects them."""

from collections.abc import Iterable

from prometheus_client.core import Metric

from docs.site.reference.markdown import code, page, prose, table
from wsd.supervisor.control.metrics import NodeCollector
from wsd.supervisor.control.status import (
    AutoscalingStatus,
    ClusterStatus,
    NodeStatus,
    ProcessStatus,
    RedisStatus,
    RelayProcessStatus,
)
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.endpoints.metrics import WorkerCollector
from wsd.worker.worker import Worker

UNITS = {"seconds": "seconds", "bytes": "bytes", "percent": "percent"}
"""The units of metrics, by the ends of their names."""


def metrics() -> str:
    """Return the metrics of nodes and of workers."""
    worker = Worker(WorkerEnv.from_env({}))
    return page(
        [
            "## Of each node",
            "The supervisor knows these. They are absent from a worker that is asked directly.",
            _table(NodeCollector(full_status()).collect()),
            "## Of each worker",
            "The label `worker` is the slot, such as `worker-1`, which stays the same when the process is replaced.",
            _table(WorkerCollector(worker).collect()),
        ]
    )


def full_status() -> ClusterStatus:
    """Return the status of a node that has everything that metrics are about."""
    process = ProcessStatus(name="", state="ready")
    return ClusterStatus(
        state="healthy",
        problems=[],
        node_id="",
        url="",
        websocket_url="",
        state_dir="",
        supervisor=process,
        workers=[],
        nginx=process,
        valkey=process,
        relay=RelayProcessStatus(name="", state="ready", archive=True),
        redis=RedisStatus(url=None, embedded=True, reachable=True),
        nodes=[NodeStatus(node_id="")],
        autoscaling=AutoscalingStatus(min=1, max=1),
    )


def _table(found: Iterable[Metric]) -> str:
    return table(
        ["metric", "type", "unit", "labels", "meaning"],
        [
            [
                code(metric.name + ("_total" if metric.type == "counter" else "")),
                metric.type,
                next((unit for end, unit in UNITS.items() if metric.name.endswith(f"_{end}")), ""),
                ", ".join(map(code, _labels(metric))),
                prose(metric.documentation),
            ]
            for metric in found
        ],
    )


def _labels(metric: Metric) -> tuple[str, ...]:
    return tuple(metric._labelnames)  # type: ignore[attr-defined]  # a family without samples says its labels only here
