"""The state directory: one supervisor at a time, and paths that fit a unix socket."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apps import APPS
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord, SavedState
from wsd.supervisor.state_dir.sockets import MAX_SOCKET_PATH


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short name, so that sockets fit into it. Those of pytest become longer with each run."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


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
    assert state_dir.lock.holder() is None
    with subprocess.Popen(
        [sys.executable, "-P", str(APPS / "hold_lock.py"), tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        assert state_dir.lock.holder() == holder.pid
        with pytest.raises(CommandError, match=rf"a supervisor \(pid {holder.pid}\) runs in {tmp_path} already"):
            state_dir.acquire()
        holder.kill()
    assert state_dir.lock.holder() is None
    state_dir.acquire()
    assert state_dir.lock.holder() == os.getpid()
    state_dir.lock.release()
    assert list(tmp_path.iterdir()) == []


def test_running_processes_are_recorded(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    state = SavedState((ProcessRecord("worker-1", 12, 15, "b"), ProcessRecord("nginx", 13, 25, "b")), 4, ("worker-2",))
    assert state_dir.read_state() == SavedState()
    state_dir.write_state(state)
    assert state_dir.read_state() == state


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"processes": 1}', '{"processes": [{"pid": 1}]}'])
def test_a_state_file_that_makes_no_sense_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert StateDir(tmp_path).read_state() == SavedState()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
SOMEBODY = 54321  # a user id that nobody has
DIRECTORIES = ("", "run", "logs", "nginx", "valkey")


def made(tmp_path: Path) -> StateDir:
    """Return a state directory as a cluster leaves it."""
    state_dir = StateDir(tmp_path / "state")
    state_dir.acquire()
    state_dir.create()
    state_dir.operator_key()
    state_dir.dashboard_secret()
    state_dir.lock.release()
    return state_dir


def refused(state_dir: StateDir, match: str) -> None:
    """Check that neither a supervisor nor a command uses the directory."""
    with pytest.raises(ConfigError, match=match):
        state_dir.acquire()
    with pytest.raises(ConfigError, match=match):
        ControlClient(state_dir).call("GET", "/v1/status")


def test_files_of_the_state_directory_are_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state_dir = made(tmp_path)
        state_dir.write_state(SavedState())
    finally:
        os.umask(before)
    assert state_dir.root.stat().st_mode & 0o777 == 0o700
    for path in state_dir.root.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    state_dir = made(tmp_path)
    path = state_dir.root / name
    path.chmod(mode)
    refused(state_dir, f"{path} can be written by other users .*chmod 700")
    path.chmod(0o755)
    state_dir.acquire()
    state_dir.lock.release()


@as_root
@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_of_another_user_is_refused(tmp_path: Path, name: str) -> None:
    state_dir = made(tmp_path)
    path = state_dir.root / name
    os.chown(path, SOMEBODY, -1)
    refused(state_dir, f"{path} belongs to uid {SOMEBODY}, not to root")


@as_root
@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_link_that_another_user_made_is_refused(tmp_path: Path, name: str) -> None:
    state_dir = made(tmp_path)
    path = state_dir.root / name
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    state_dir.acquire()  # a link of our own may lead to a larger disk
    state_dir.lock.release()
    os.chown(path, SOMEBODY, -1, follow_symlinks=False)
    refused(state_dir, f"{path} belongs to uid {SOMEBODY}, not to root")


@pytest.mark.parametrize("name", ["operator.key", "lock", "dashboard.key"])
@pytest.mark.parametrize(
    "kind", ["link", "dangling link", "fifo", "others can write", "others can read", "other owner"]
)
def test_a_key_or_lock_that_another_user_may_have_made_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    state_dir = made(tmp_path)
    path = state_dir.root / name
    path.unlink(missing_ok=True)
    theirs = tmp_path / "theirs"
    if kind.endswith("link"):
        path.symlink_to(theirs)
        if kind == "link":
            theirs.write_text("theirs")
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.write_text("theirs")
        path.chmod({"others can write": 0o602, "others can read": 0o644}.get(kind, 0o600))
        if kind == "other owner":
            if os.geteuid() != 0:
                pytest.skip("only root can give files away")
            os.chown(path, SOMEBODY, -1)
    again = StateDir(state_dir.root)
    if name == "lock":
        if kind == "others can read":
            return  # it holds no secret
        with pytest.raises(CommandError, match="lock"):
            again.acquire()
        if kind.endswith("link"):
            assert again.lock.holder() is None
            return
        with pytest.raises(ConfigError, match=f"{path}.*remove it"):
            again.lock.holder()
    else:
        with pytest.raises(ConfigError, match=f"{path}.*remove it"):
            again.operator_key() if name == "operator.key" else again.dashboard_secret()
    assert not theirs.exists() or theirs.read_text() == "theirs"


def test_a_key_is_made_beside_whatever_link_was_planted(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    for name in ("operator.key.new", "state.json.new"):
        (tmp_path / name).symlink_to(theirs)
    assert len(state_dir.operator_key()) > 20
    state_dir.write_state(SavedState())
    assert theirs.read_text() == "theirs"
    assert not state_dir.operator_key_path.is_symlink()


def test_keys_are_made_once_and_stay_the_same(tmp_path: Path) -> None:
    state_dir = made(tmp_path)
    key = state_dir.operator_key()
    assert StateDir(state_dir.root).operator_key() == key == state_dir.operator_key_path.read_text()
    assert StateDir(state_dir.root).dashboard_secret() == state_dir.dashboard_secret() != key


@pytest.mark.parametrize("command", [["start"], ["status"], ["stop"], ["logs"], ["events"], ["restart"]])
def test_every_command_refuses_it_in_one_line(tmp_path: Path, command: list[str]) -> None:
    made(tmp_path).root.chmod(0o777)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("WSD_")}
    result = subprocess.run(
        [sys.executable, "-m", "wsd.supervisor", *command, "--state-dir", tmp_path / "state"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "chmod 700" in line


def test_cleaning_leaves_logs_and_data(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "state")
    state_dir.acquire()
    state_dir.create()
    state_dir.worker_socket(1).touch()
    state_dir.log("nginx").touch()
    state_dir.write_state(SavedState())
    state_dir.clean()
    state_dir.lock.release()
    assert sorted(path.name for path in state_dir.root.iterdir()) == ["logs", "nginx", "valkey"]
    assert state_dir.log("nginx").exists()
