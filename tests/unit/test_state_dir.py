"""The state directory: one supervisor at a time, and paths that fit a unix socket."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsd.supervisor.errors import WsdError
from wsd.supervisor.state_dir import MAX_SOCKET_PATH, ProcessRecord, SavedState, StateDir

HOLD = """
import sys
from pathlib import Path
from wsd.supervisor.state_dir import StateDir
StateDir(Path(sys.argv[1])).lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("depth", [0, 3, 30])
def test_every_socket_path_fits(tmp_path: Path, depth: int) -> None:
    root = tmp_path.joinpath(*["deeper"] * depth)
    state_dir = StateDir(root)
    for path in (state_dir.worker_socket(256, 10**7), state_dir.control_socket, state_dir.valkey_socket):
        assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert StateDir(root).sockets == state_dir.sockets  # `wsd status` finds what `wsd start` chose
    assert StateDir(root / "other").sockets != state_dir.sockets


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    assert state_dir.lock_holder() is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert state_dir.lock_holder() == holder.pid
        with pytest.raises(WsdError, match=rf"a supervisor \(pid {holder.pid}\) runs in {tmp_path} already"):
            state_dir.lock()
        holder.kill()
    assert state_dir.lock_holder() is None
    state_dir.lock()
    assert state_dir.lock_holder() == os.getpid()
    state_dir.unlock()
    assert list(tmp_path.iterdir()) == []


def test_what_runs_is_remembered(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    state = SavedState((ProcessRecord("worker-1", 12, 15, "b"), ProcessRecord("nginx", 13, 25, "b")), 4, ("worker-2",))
    assert state_dir.read_state() == SavedState()
    state_dir.write_state(state)
    assert state_dir.read_state() == state


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"processes": 1}', '{"processes": [{"pid": 1}]}'])
def test_a_state_file_that_makes_no_sense_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert StateDir(tmp_path).read_state() == SavedState()


def test_a_socket_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    state_dir.sockets.mkdir()
    state_dir.sockets.chmod(0o777)
    with pytest.raises(WsdError, match="is not ours alone"):
        state_dir.create()


def test_cleaning_leaves_logs_and_data(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "state")
    state_dir.lock()
    state_dir.create()
    state_dir.worker_socket(1).touch()
    state_dir.log("nginx").touch()
    state_dir.write_state(SavedState())
    state_dir.clean()
    state_dir.unlock()
    assert sorted(path.name for path in state_dir.root.iterdir()) == ["logs", "nginx", "valkey"]
    assert state_dir.log("nginx").exists()
