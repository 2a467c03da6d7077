"""Find the processes that state.json records, and make sure that none is another process with the same pid."""

import os
from collections.abc import Sequence
from pathlib import Path

from wsd.supervisor.machine.identity import carries_mark
from wsd.supervisor.machine.pidfd import pidfd_of
from wsd.supervisor.machine.procfs import current_boot, stat_of
from wsd.supervisor.state_dir.records import ProcessRecord


def is_alive(record: ProcessRecord, root: Path) -> bool:
    """Tell whether the recorded process still runs, and belongs to the cluster in the state directory `root`."""
    stat = stat_of(record.pid)
    if stat is None or stat.has_ended or stat.start_ticks != record.start_ticks:
        return False
    return record.boot == current_boot() and carries_mark(record.pid, root, record.worker_id)


def open_pidfd(record: ProcessRecord, root: Path) -> int:
    """Return a pidfd of the recorded process. It keeps referring to that process even when the pid is reused.

    Raises ProcessLookupError when the process has ended.
    """
    pidfd = pidfd_of(record.pid)
    if is_alive(record, root):  # checked after the open, so that the pidfd is of the process that was checked
        return pidfd
    os.close(pidfd)
    raise ProcessLookupError(f"{record.name} (pid {record.pid}) has ended")


def names_of(records: Sequence[ProcessRecord]) -> str:
    """Return the processes as people read them: `nginx (pid 12), worker-1 (pid 14)`."""
    return ", ".join(f"{record.name} (pid {record.pid})" for record in records)
