"""Define the heartbeat, the record that a worker publishes every second."""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from wsd.worker.contract.json_records import check_types, decode


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
        return cls._from_raw(decode(text))

    @classmethod
    def from_health(cls, body: bytes) -> Self:
        """The record in a worker's answer to GET /health. Raises ValueError."""
        answer = decode(body)
        return cls._from_raw(answer.get("heartbeat") if isinstance(answer, dict) else None)

    @classmethod
    def _from_raw(cls, raw: Any) -> Self:
        try:
            known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw or f.default is MISSING}
        except (TypeError, KeyError) as exc:
            raise ValueError(f"not a heartbeat: {exc!r}") from None
        known["state"] = WorkerState(known["state"])
        check_types(cls, known)
        return cls(**known)
