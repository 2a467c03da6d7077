"""Metrics for Prometheus: the plain counters of the worker, in its text format when it scrapes them."""

import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wsd.worker.background.containment import faults
from wsd.worker.broker.circuit_breaker import BreakerState
from wsd.worker.hooks.event_queue import Waiting
from wsd.worker.worker import Worker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(worker: Worker) -> bytes:
    """Return the metrics of a worker in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(worker))
    return generate_latest(registry)


class WorkerCollector(Collector):
    """Collects the metrics of one worker.

    They are labelled with the worker's slot, if it has one: slots stay the same when workers are replaced.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        slot = worker.env.slot
        self._labels = {"node": worker.env.node_id, "worker": f"worker-{slot}" if slot else worker.env.worker_id}

    def collect(self) -> Iterator[Metric]:
        worker, beat = self._worker, self._worker.heartbeat.record()
        seen = worker.manager.statistics()
        broker, health = seen.broker, worker.backend.broker.health
        totals = worker.heartbeat.totals
        yield self._gauge("connections", "WebSockets connected now", seen.connections)
        yield self._gauge("users", "Users connected to this worker now", seen.users)
        yield self._gauge("channels", "Channels with members on this worker now", seen.channels)
        yield self._counter("messages_received", "Messages from clients", seen.messages_in)
        yield self._counter("messages_sent", "Messages to clients", seen.messages_out)
        waiting = worker.parts.outlet.waiting_bytes
        yield self._gauge("send_backlog_bytes", "Bytes that clients who read too slowly have not taken yet", waiting)
        yield self._counters("connections_closed", "WebSockets that ended, by reason", "reason", seen.closes)
        yield self._counter("history_repaired", "Missed messages that were read from a history", seen.repaired)
        yield self._counters("history_losses", "Losses that members were told of, by reason", "reason", seen.losses)
        yield self._counters("refused", "Handshakes and messages refused, by reason", "reason", seen.refusals)
        yield self._counters("faults", "Unexpected exceptions, by where they were caught", "where", faults)
        yield self._gauge("loop_lag_seconds", "Greatest lag of the event loop since the last heartbeat", beat.loop_lag)
        yield self._gauge("resident_memory_bytes", "Memory of the process", beat.rss)
        yield self._gauge("distributed", "1 while messages cross workers", int(worker.backend.broker.healthy))
        states = {state.value: int(state is health.breaker) for state in BreakerState}
        yield self._gauges("breaker_state", "1 for the state the circuit breaker is in", "state", states)
        yield self._counter("breaker_opened", "Times that the circuit breaker opened", broker.breaker_opened)
        yield self._counter("redis_reconnects", "Listening connections made to Redis", broker.reconnects)
        yield self._counter(
            "hearing_failures", "Probes to its own channel that did not arrive", broker.hearing_failures
        )
        yield self._gauge("broker_channels", "Channels subscribed now", broker.channels)
        yield self._counter("broker_published", "Messages published to other workers", broker.published)
        yield self._counter("broker_heard", "Messages received from workers", broker.heard)
        yield self._counter("broker_duplicates", "Messages received again, and not delivered again", broker.duplicates)
        yield self._counter("broker_dropped", "Messages that could never be published", broker.dropped)
        yield self._counter("broker_refused", "Messages that Redis rejected", broker.refused)
        yield self._gauge("spool_messages", "Messages that wait for Redis now", broker.spooled)
        yield self._gauge("spool_bytes", "Bytes of the messages that wait for Redis now", broker.spool_bytes)
        readers = worker.parts.event_readers
        waiting_events: dict[str, Waiting] = {name: delivery.waiting for name, delivery in readers.deliveries.items()}
        counts = {name: waiting.count for name, waiting in waiting_events.items()}
        yield self._gauges("events_waiting", "Events that this worker is to hand out, by reader", "reader", counts)
        ages = {name: waiting.age(time.time()) for name, waiting in waiting_events.items()}
        yield self._gauges("events_oldest_age_seconds", "Age of the oldest of these events", "reader", ages)
        dropped = {name: waiting.dropped for name, waiting in waiting_events.items()}
        yield self._gauges("events_dropped", "Events dropped, since too many waited", "reader", dropped)
        sender = readers.sender
        yield self._counter("webhook_events_sent", "Events that the receiver has taken", sender.sent if sender else 0)
        yield self._counter("webhook_failures", "Webhooks that could not be posted", sender.failed if sender else 0)
        yield self._gauge("cluster_workers", "Live workers of all nodes", totals.workers)
        yield self._gauge("cluster_sessions", "Sessions on all nodes", totals.sessions)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        return self._filled(GaugeMetricFamily(f"wsd_{name}", text, labels=list(self._labels)), {"": value})

    def _counter(self, name: str, text: str, value: float) -> Metric:
        return self._filled(CounterMetricFamily(f"wsd_{name}", text, labels=list(self._labels)), {"": value})

    def _gauges(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        return self._filled(GaugeMetricFamily(f"wsd_{name}", text, labels=[*self._labels, label]), values)

    def _counters(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        return self._filled(CounterMetricFamily(f"wsd_{name}", text, labels=[*self._labels, label]), values)

    def _filled(self, metric: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
        """Return the metric with a sample for each of `values`, by the value of the last label; "" is none."""
        for key, value in values.items():
            metric.add_metric([*self._labels.values(), *([key] if key else [])], value)
        return metric
