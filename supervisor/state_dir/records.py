"""The record of the processes of a cluster, as state.json keeps it for the next supervisor."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

from wsd.supervisor.machine import procfs

VERSION = 2


@dataclass(frozen=True)
class ProcessRecord:
    """A process of the cluster. No other process has the same pid, start_ticks and boot, see `machine.identity`."""

    name: str
    pid: int
    start_ticks: int
    """Clock ticks from the boot of the machine to the start of the process."""
    boot: str
    incarnation: int = 1
    worker_id: str = ""
    draining: bool = False


@dataclass(frozen=True)
class SavedState:
    """The state that a supervisor leaves to the next one."""

    processes: tuple[ProcessRecord, ...] = ()
    workers: int = 0
    """How many workers the cluster is to have; 0 where the record does not say."""
    drained: tuple[str, ...] = ()
    """The names of the slots that stay empty until they are resumed."""

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a record. One that makes no sense is an empty record: an unknown version or an editor wrote it."""
        try:
            raw = json.loads(text)
            processes = tuple(map(_record, raw["processes"]))
            return cls(processes, int(raw.get("workers", 0)), tuple(raw.get("drained", ())))
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls()


def _record(raw: dict[str, Any]) -> ProcessRecord:
    """Read a process. Earlier releases dated it by the wall clock, in `create_time`."""
    if "create_time" in raw:
        known = {name: value for name, value in raw.items() if name != "create_time"}
        ticks = procfs.ticks_at(raw["pid"], raw["create_time"])
        return ProcessRecord(**known, start_ticks=ticks, boot=procfs.current_boot())
    return ProcessRecord(**raw)
