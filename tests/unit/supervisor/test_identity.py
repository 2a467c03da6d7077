"""Processes are recognised by boot, start time and mark. With real processes, without a cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.waiting import until
from wsd.supervisor.control.stopping import stop
from wsd.supervisor.errors import NotRunningError
from wsd.supervisor.machine import procfs
from wsd.supervisor.machine.identity import MARK
from wsd.supervisor.processes.orphans import end_leftovers
from wsd.supervisor.processes.recorded import is_alive, open_pidfd
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord, SavedState

NOTHING: Mapping[str, str] = {}

REST = b" 1 77 77 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 123456 1 2 18446744073709551615"


@pytest.mark.parametrize(
    ("line", "state"),
    [
        (b"12 (sleep) S" + REST, "S"),
        (b"12 (a b) c) R" + REST, "R"),
        (b"12 (1) S 2 3 (x) Z" + REST, "Z"),
        (b"12 (\xff\n) X" + REST, "X"),
        (b"12 () D" + REST, "D"),
    ],
)
def test_a_name_in_stat_may_hold_anything(line: bytes, state: str) -> None:
    assert procfs.parse_stat(line) == procfs.Stat(state, parent=1, group=77, start_ticks=123456)


@contextmanager
def running(
    *argv: str, environ: Mapping[str, str] = NOTHING, output: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own; the whole group is gone at the end."""
    with (output or Path(os.devnull)).open("ab") as target:
        process = subprocess.Popen(argv, env={**os.environ, **environ}, stdout=target, start_new_session=True)
    try:
        yield process
    finally:
        for pid in procfs.members_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def record_of(pid: int, worker_id: str = "") -> ProcessRecord:
    stat = procfs.stat_of(pid)
    assert stat is not None
    return ProcessRecord("worker-1", pid, stat.start_ticks, procfs.current_boot(), worker_id=worker_id)


def test_a_process_is_ours_by_its_boot_start_time_and_mark(tmp_path: Path) -> None:
    with running("sleep", "60", environ={MARK: str(tmp_path)}) as process:
        record = record_of(process.pid)
        assert is_alive(record, tmp_path)
        others = [
            replace(record, start_ticks=record.start_ticks + 1),
            replace(record, boot="another"),
            replace(record, boot=record.boot.replace("pid:[", "pid:[1")),  # a container that was started again
            replace(record, pid=os.getpid()),
            replace(record, pid=0),
            replace(record, pid=-1),
        ]
        assert [other for other in others if is_alive(other, tmp_path)] == []
        assert not is_alive(record, tmp_path / "other")
        os.close(open_pidfd(record, tmp_path))
        process.kill()
        until(lambda: not is_alive(record, tmp_path))  # a zombie, until somebody waits for it
        with pytest.raises(ProcessLookupError):
            open_pidfd(record, tmp_path)


def test_the_mark_is_the_worker_id_the_directory_or_the_output(tmp_path: Path) -> None:
    named = tmp_path / "current"
    (tmp_path / "release" / "logs").mkdir(parents=True)
    named.symlink_to("release")
    root = str((tmp_path / "release").resolve())
    with running("sleep", "60", environ={"WORKER_ID": "worker-1-ab12"}) as process:
        assert is_alive(record_of(process.pid, "worker-1-ab12"), named)
        assert not is_alive(record_of(process.pid, "worker-1-ffff"), named)
        assert not is_alive(record_of(process.pid), named)
    with running("sleep", "60", environ={MARK: root}) as process:
        assert is_alive(record_of(process.pid, "worker-1-ffff"), named)
    # As nginx and Valkey do, which put their title where their environment was.
    with running("sleep", "60", output=named / "logs" / "nginx.log") as process:
        assert is_alive(record_of(process.pid), named)
        (named / "logs" / "nginx.log").unlink()
        assert is_alive(record_of(process.pid), named)
        assert not is_alive(record_of(process.pid), tmp_path / "rel")


def write_state(root: Path, *records: ProcessRecord) -> StateDir:
    state_dir = StateDir(root)
    root.mkdir(exist_ok=True)
    state_dir.write_state(SavedState(records, 1))
    return state_dir


@pytest.mark.parametrize("wrong", ["start_ticks", "boot", "mark"])
def test_a_stop_spares_a_process_that_reuses_a_recorded_pid(tmp_path: Path, wrong: str) -> None:
    mark = {} if wrong == "mark" else {MARK: str(tmp_path)}
    with running("sleep", "60", environ=mark) as stranger:
        record = record_of(stranger.pid)
        if wrong == "start_ticks":
            record = replace(record, start_ticks=record.start_ticks - 100)
        if wrong == "boot":
            record = replace(record, boot="another")
        state_dir = write_state(tmp_path, record)
        with pytest.raises(NotRunningError):
            stop(state_dir, 0)
        assert stranger.poll() is None


def test_only_marked_members_of_an_orphaned_group_are_ended(tmp_path: Path) -> None:
    """The leader is dead: whoever has its group may be somebody else, whose leader has ended, too."""
    script = "import os, subprocess as s; s.Popen(['sleep', '60']); s.Popen(['sleep', '60'], env={})"
    with running(sys.executable, "-c", script, environ={MARK: str(tmp_path)}) as leader:
        record = record_of(leader.pid)
        leader.wait()
        ours, stranger = sorted(procfs.members_of(leader.pid))
        assert end_leftovers([record], tmp_path, 1) == []
        until(lambda: (stat := procfs.stat_of(ours)) is None or stat.has_ended)
        assert list(procfs.members_of(leader.pid)) == [stranger]


def test_all_members_of_a_living_group_are_ended(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess as s; signal.signal(15, signal.SIG_IGN); s.Popen(['sleep', '60'], env={}).wait()"
    )
    with running(sys.executable, "-c", script, environ={MARK: str(tmp_path)}) as leader:
        until(lambda: len(list(procfs.members_of(leader.pid))) == 2)
        assert end_leftovers([record_of(leader.pid)], tmp_path, 0.05) == [record_of(leader.pid)]
        until(lambda: not list(procfs.members_of(leader.pid)))


def test_a_record_of_a_release_that_dated_by_the_wall_clock_is_read(tmp_path: Path) -> None:
    with running("sleep", "60", environ={MARK: str(tmp_path)}) as process:
        created = time.time() - procfs.uptime_of(record_of(process.pid).start_ticks)
        text = '{"version": 1, "processes": [{"name": "nginx", "pid": %d, "create_time": %f}], "workers": 2}'
        (tmp_path / "state.json").write_text(text % (process.pid, created))
        (record,) = StateDir(tmp_path).read_state().processes
        assert record == replace(record_of(process.pid), name="nginx")
        (tmp_path / "state.json").write_text(text % (process.pid, created - 10))
        (record,) = StateDir(tmp_path).read_state().processes
        assert not is_alive(record, tmp_path)
