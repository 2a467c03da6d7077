"""Define the heartbeat, the record by which a worker shows that it lives."""

import json
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

from wsd.worker.contract.json_records import check_types, decode


class WorkerState(StrEnum):
    """The phase of a worker's life. Only a READY worker gets new connections."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The state of one worker. Redis gets it at every heartbeat interval, and GET /health answers with it.

    Counters start at 0 with the process.
    """

    worker_id: str
    node_id: str
    slot: int
    """The number of the worker on its node. 0 for a worker that wsd has not started."""

    pid: int
    """The process id of the worker."""

    beat: int
    """One higher in each heartbeat. A supervisor sees by it that the worker lives, whatever the clocks say."""

    uptime: float
    """Seconds since the worker started, on its monotonic clock."""

    state: WorkerState
    """The phase of the worker's life. Only a ready worker gets new connections."""

    connections: int
    messages_in: int
    messages_out: int
    loop_lag: float  # seconds, the worst since the last beat
    rss: int
    """The memory of the process, in bytes."""

    redis: bool
    """Whether the worker can send to Redis, and receives messages of other workers through it."""

    deaf: bool = False
    """Whether it can send to Redis and does not receive what it sends, even on new connections."""

    refused: int = 0
    """Messages that Redis has rejected."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a heartbeat from Redis. Fields that only newer workers know are ignored.

        Raises ValueError if the text is not a heartbeat.
        """
        return cls._from_raw(decode(text))

    @classmethod
    def from_health(cls, body: bytes) -> Self:
        """Read the heartbeat in a worker's answer to GET /health.

        Raises ValueError if the answer holds none.
        """
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
