"""Metrics of the node for Prometheus: the supervisor's view of its processes, and the metrics of each worker."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control.status import ClusterStatus, RelayProcessStatus
from wsd.supervisor.control.status_report import report
from wsd.supervisor.deploys.operations import Operations

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Figure = tuple[str, float]
"""What a metric counts, and its value."""

WORKER_SECONDS = 2.0
"""How long a worker may take to answer. A hung worker must not delay the metrics of the others."""


async def collect(cluster: Cluster, operations: Operations) -> str:
    """Return the metrics of this node and of all its workers, in the text format of Prometheus."""
    texts = await asyncio.gather(*(child.service.metrics(WORKER_SECONDS) for child in cluster.workers))
    registry = CollectorRegistry()
    registry.register(NodeCollector(report(cluster, operations)))
    return merge([generate_latest(registry).decode(), *texts])


def merge(texts: Iterable[str]) -> str:
    """Merge several texts into one, in which the samples of a metric stand together below one description. Pure."""
    families: dict[str, list[str]] = {}
    for text in texts:
        family: list[str] = []
        is_new = True
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                is_new = name not in families
                family = families.setdefault(name, [])
                if is_new:
                    family.append(line)
            elif line.startswith("#"):
                if is_new:
                    family.append(line)
            else:
                family.append(line)
    return "".join(f"{line}\n" for family in families.values() for line in family)


class NodeCollector(Collector):
    """The metrics that follow from the status of the cluster."""

    def __init__(self, status: ClusterStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        others = (status.supervisor, status.nginx, status.valkey, status.relay)
        processes = [*status.workers, *(process for process in others if process is not None)]
        labels = ["node", "process"]
        up = GaugeMetricFamily("wsd_process_up", "1 while the process is ready", labels=labels)
        restarts = CounterMetricFamily("wsd_process_restarts", "Restarts of the slot", labels=labels)
        rss = GaugeMetricFamily("wsd_process_resident_memory_bytes", "Memory of the process", labels=labels)
        cpu = GaugeMetricFamily("wsd_process_cpu_percent", "Of one core, over the last second", labels=labels)
        for process in processes:
            values = [status.node_id, process.name]
            up.add_metric(values, int(process.state in ("ready", "running")))
            restarts.add_metric(values, process.restarts)
            rss.add_metric(values, process.rss_bytes or 0)
            cpu.add_metric(values, process.cpu_percent or 0.0)
        healthy = GaugeMetricFamily("wsd_node_healthy", "1 while nothing is degraded", labels=["node"])
        healthy.add_metric([status.node_id], int(status.state == "healthy"))
        connections = GaugeMetricFamily("wsd_node_connections", "WebSockets of all workers now", labels=["node"])
        connections.add_metric([status.node_id], sum(worker.connections or 0 for worker in status.workers))
        workers = GaugeMetricFamily("wsd_node_workers", "Workers that the node has or starts", labels=["node"])
        workers.add_metric([status.node_id], len(status.workers))
        nodes = GaugeMetricFamily("wsd_nodes", "Nodes that share the Redis, by state", labels=["node", "state"])
        for state, number in Counter(node.state for node in status.nodes).items():
            nodes.add_metric([status.node_id, state], number)
        yield from (up, restarts, rss, cpu, healthy, connections, workers, nodes)
        if status.autoscaling is not None:
            for name, limit in (("min", status.autoscaling.min), ("max", status.autoscaling.max)):
                text = f"The number of workers that scale.{name} allows"
                family = GaugeMetricFamily(f"wsd_node_workers_{name}", text, labels=["node"])
                family.add_metric([status.node_id], limit)
                yield family
        if status.relay is not None:
            yield from _outbox(status.node_id, status.relay)
            if status.relay.archive:
                yield from _archive(status.node_id, status.relay)


def _outbox(node_id: str, relay: RelayProcessStatus) -> Iterator[Metric]:
    """Yield the metrics of the outbox. Those of its rows are 0 on nodes whose relay stands by."""
    gauges = {
        "active": ("1 while the relay of this node publishes the outbox, 0 while it stands by", relay.active),
        "waiting": ("Rows of the outbox that wait, counted up to 100000", relay.waiting),
        "oldest_seconds": ("How long ago the next row of the outbox was inserted", relay.oldest_seconds),
        "failed": ("Rows of the outbox that cannot be published and are set aside", relay.set_aside),
    }
    yield from _families("wsd_outbox", node_id, gauges, {"published": ("Rows that were published", relay.published)})


def _archive(node_id: str, relay: RelayProcessStatus) -> Iterator[Metric]:
    """Yield the metrics of the archive. They are 0 on nodes whose relay stands by."""
    gauges = {
        "active": ("1 while the relay of this node writes the archive, 0 while it stands by", relay.archive_active),
        "waiting": ("Channels with messages that are not archived yet", relay.archive_waiting),
        "oldest_seconds": ("How long the first of them waits", relay.archive_oldest_seconds),
    }
    counters = {
        "messages": ("Messages that were archived", relay.archived),
        "lost": ("Messages that Redis had forgotten before they were archived", relay.archive_lost),
    }
    yield from _families("wsd_archive", node_id, gauges, counters)


def _families(
    prefix: str, node_id: str, gauges: Mapping[str, Figure], counters: Mapping[str, Figure]
) -> Iterator[Metric]:
    """Yield a metric of this node for each figure. The figures have the ends of the names of their metrics."""
    for name, (text, value) in gauges.items():
        yield _labelled(GaugeMetricFamily(f"{prefix}_{name}", text, labels=["node"]), node_id, value)
    for name, (text, value) in counters.items():
        yield _labelled(CounterMetricFamily(f"{prefix}_{name}", text, labels=["node"]), node_id, value)


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, node_id: str, value: float) -> Metric:
    family.add_metric([node_id], float(value))
    return family
