"""The state directory: where every file of a running cluster lives, the lock, and the record of its processes."""

import fcntl
import hashlib
import json
import os
import socket
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from wsd.supervisor import quoting
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine import procfs
from wsd.supervisor.machine.private_files import (
    check_directory,
    keep_secret,
    make_directory,
    open_private,
    write_private,
)

MAX_SOCKET_PATH = 107
"""Bytes that sockaddr_un.sun_path holds before its final zero (unix(7))."""

LOCK_SECONDS = 0.5
"""How long a start waits for the lock: who asks whether it is held (`lock_holder`) shares it for a moment."""

LONGEST_SOCKET_NAME = "worker-999.99999999.sock"


@dataclass(frozen=True)
class ProcessRecord:
    """A process of the cluster. No other process has the same pid, start_ticks and boot, see `machine.identity`."""

    name: str
    pid: int
    start_ticks: int  # from the boot to its start
    boot: str
    incarnation: int = 1
    worker_id: str = ""
    draining: bool = False


@dataclass(frozen=True)
class SavedState:
    """What a supervisor leaves to its successor. `workers`: how many there were to be, 0: nobody said; `drained`: the
    names of slots that stay empty until somebody resumes them."""

    processes: tuple[ProcessRecord, ...] = ()
    workers: int = 0
    drained: tuple[str, ...] = ()


@dataclass(frozen=True)
class BoundSocket:
    """The file by which a socket is found, and whether it is still this socket's."""

    path: Path
    inode: int | None  # None: it was gone when we came

    @classmethod
    def at(cls, path: Path) -> Self:
        return cls(path, _inode(path))

    @property
    def is_there(self) -> bool:
        return self.inode is not None and _inode(self.path) == self.inode


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


class StateDir:
    """Paths below one directory, created when the cluster starts. Sockets may live elsewhere, see `_socket_dir`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sockets = _socket_dir(root)
        self.logs = root / "logs"
        self.nginx = root / "nginx"
        self.valkey = root / "valkey"
        self.control_socket = self.sockets / "control.sock"
        self.valkey_socket = self.sockets / "valkey.sock"
        self._directories = (self.logs, self.nginx, self.valkey, self.sockets)
        self.events = self.logs / "events.jsonl"
        self._lock_path = root / "lock"
        self._state_path = root / "state.json"
        self.operator_key_path = root / "operator.key"
        self._lock_fd: int | None = None
        self._operator_key = ""

    def worker_socket(self, slot: int, incarnation: int | None = None) -> Path:
        """The path nginx knows, or the one an incarnation binds until it is ready."""
        return self.sockets / (f"worker-{slot}.sock" if incarnation is None else f"worker-{slot}.{incarnation}.sock")

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def operator_key(self) -> str:
        """The key by which the workers know the supervisor, and the supervisor knows its operator.

        It is made when it is first asked for, and the same for the supervisor's successors.
        Raises ConfigError when somebody else has made it.
        """
        if not self._operator_key:
            self._operator_key = keep_secret(self.operator_key_path)
        return self._operator_key

    def dashboard_secret(self) -> str:
        """The key from which the dashboard's token and cookies are derived; it outlives the cluster.

        Raises ConfigError when somebody else has made it, and CommandError when it cannot be written.
        """
        try:
            return keep_secret(self.root / "dashboard.key")
        except OSError as exc:
            raise self._unusable(exc) from None

    def check(self) -> None:
        """Raise ConfigError where a directory of ours belongs to another user, or others can write there."""
        for path in (self.root, *self._directories):
            with suppress(FileNotFoundError):
                try:
                    check_directory(path)
                except PermissionError:
                    raise ConfigError(
                        f"{path} cannot be looked at: choose another with --state-dir, or run wsd as its owner"
                    ) from None

    def lock(self, inherited: int = -1) -> None:
        """Make the directory and hold it for as long as this process lives. `inherited`: the descriptor by which it is
        held already, see `keep_lock_open`.

        Raises CommandError when that is not permitted, or another supervisor holds it.
        """
        if inherited >= 0 and self._holds(inherited):
            os.set_inheritable(inherited, False)
            self._lock_fd = inherited
            return
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            if self._try_lock():
                if (holder := self._holder_of_removed_lock()) is None:
                    return
                self.unlock()
            else:
                holder = self.lock_holder()
            if time.monotonic() > deadline:
                raise CommandError(
                    f"a supervisor (pid {holder}) runs in {self.root} already: `wsd stop` ends it, "
                    "--state-dir starts another cluster"
                )
            time.sleep(0.02)

    def _try_lock(self) -> bool:
        try:
            make_directory(self.root)
            for path in self._directories:
                if path.is_dir():
                    make_directory(path)
            self.check()
            fd = open_private(self._lock_path, os.O_RDWR | os.O_CREAT)
        except OSError as exc:
            raise self._unusable(exc) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(fd), self._lock_path.stat()):
                raise FileNotFoundError  # its last holder removed it in between
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)
            return False
        self._lock_fd = fd
        with suppress(OSError):  # who stops a cluster on a full disk needs the lock, and no file that says so
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        return True

    def _holds(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), self._lock_path.stat())
        except OSError:
            return False

    def keep_lock_open(self) -> int:
        """Let what this process executes next inherit the lock; the descriptor to tell it."""
        assert self._lock_fd is not None
        os.set_inheritable(self._lock_fd, True)
        return self._lock_fd

    def create(self) -> None:
        """Make what a cluster needs below a locked directory. Raises CommandError."""
        try:
            for path in self._directories:
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise self._unusable(exc) from None
        self.check()

    def restore(self) -> list[str]:
        """Make again what somebody has removed from a directory that we hold. Returns the names of what was missing.

        Raises CommandError or OSError when that is not possible.
        """
        needed = (self.root, *self._directories)
        missing = [path.name for path in needed if not path.is_dir()]
        if missing:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.create()
        held = self._lock_fd
        if held is not None and not self._holds(held):
            if not self._try_lock():
                raise CommandError(f"the supervisor (pid {self.lock_holder()}) has taken {self.root}, too")
            os.close(held)
            missing.append(self._lock_path.name)
        if self._operator_key and not self.operator_key_path.exists():
            write_private(self.operator_key_path, self._operator_key)
            missing.append(self.operator_key_path.name)
        if not self._state_path.exists():
            missing.append(self._state_path.name)
        return missing

    def _unusable(self, exc: OSError) -> CommandError:
        where = exc.filename or self.root
        return CommandError(
            f"cannot use the state directory {self.root}: {where}: {exc.strerror}; choose another with --state-dir"
        )

    def lock_holder(self) -> int | None:
        """The pid of the supervisor that runs here, or None."""
        try:
            fd = open_private(self._lock_path, os.O_RDONLY)
        except FileNotFoundError:
            return self._holder_of_removed_lock()
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(fd, 32) or b"0")
        finally:
            os.close(fd)
        return None

    def open_holder(self) -> int | None:
        """Open a pidfd of the supervisor that runs here: a process that has the lock open, whatever its file says.

        Returns None when there is none, or it is another user's.
        """
        pid = self.lock_holder()
        if not pid:
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        if self._has_lock_open(pid):
            return pidfd
        os.close(pidfd)
        return None

    def _holder_of_removed_lock(self) -> int | None:
        """Find a supervisor whose lock file was removed: it restores the file within a second, and runs meanwhile."""
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int(path.name) == os.getpid() or not _may_be_supervisor((path / "cmdline").read_bytes()):
                    continue
                if self._has_lock_open(int(path.name), removed_only=True):
                    return int(path.name)
        return None

    def _has_lock_open(self, pid: int, *, removed_only: bool = False) -> bool:
        removed = f"{self.root.resolve() / self._lock_path.name} (deleted)"
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) == removed:
                        return True
                    if not removed_only and os.path.samestat(descriptor.stat(), self._lock_path.stat()):
                        return True
        return False

    def write_state(self, state: SavedState) -> None:
        """Replace state.json as a whole: a reader, or a crash, sees the old one or the new one."""
        write_private(self._state_path, json.dumps({"version": 2, **asdict(state)}, indent=2) + "\n")

    def read_state(self) -> SavedState:
        """What the last supervisor here left; nothing when it ended cleanly."""
        try:
            raw = json.loads(self._state_path.read_text("utf-8"))
            records = tuple(map(_record, raw["processes"]))
            return SavedState(records, int(raw.get("workers", 0)), tuple(raw.get("drained", ())))
        except FileNotFoundError:
            return SavedState()
        except (ValueError, KeyError, TypeError, AttributeError):
            # Written by a version that we do not know, or by hand; the lock already says it is ours.
            return SavedState()

    def clean_sockets(self) -> None:
        """Remove those that nobody listens on."""
        for path in self.sockets.glob("*.sock"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                try:
                    probe.connect(str(path))
                except BlockingIOError:
                    continue  # its backlog is full, so there is one
                except OSError:
                    with suppress(OSError):  # a directory in its place; whoever binds the socket reports that
                        path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what only a running cluster needs: sockets and state. Logs and data stay."""
        self.clean_sockets()
        with suppress(OSError):  # somebody put something of theirs there
            self.sockets.rmdir()
        self._state_path.unlink(missing_ok=True)
        self.operator_key_path.unlink(missing_ok=True)

    def unlock(self) -> None:
        if self._lock_fd is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None


def _may_be_supervisor(command_line: bytes) -> bool:
    """Whether it is worth to look at the descriptors of a process; workers may have very many."""
    return b"wsd" in command_line and b"wsd.worker" not in command_line


def _record(raw: dict[str, Any]) -> ProcessRecord:
    """Read a process of state.json. Releases before this one dated it by the wall clock, in `create_time`."""
    if "create_time" in raw:
        known = {name: value for name, value in raw.items() if name != "create_time"}
        ticks = procfs.ticks_at(raw["pid"], raw["create_time"])
        return ProcessRecord(**known, start_ticks=ticks, boot=procfs.current_boot())
    return ProcessRecord(**raw)


def _socket_dir(root: Path) -> Path:
    """Choose `run/` in the state directory, or a place that follows from its path.

    Another place is chosen where the path is too long for a socket, or has characters that mean something in a URL or
    a configuration: every program that gets the address of a socket then gets a plain one.
    """
    preferred = root / "run"
    if _can_hold_sockets(preferred):
        return preferred
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    short = base / f"wsd-{os.geteuid()}-{digest}"
    if not _can_hold_sockets(short):
        short = Path("/tmp") / short.name  # noqa: S108 - create() refuses a directory that is not ours
    return short


def _can_hold_sockets(directory: Path) -> bool:
    longest = str(directory / LONGEST_SOCKET_NAME)
    return len(os.fsencode(longest)) <= MAX_SOCKET_PATH and quoting.PLAIN.fullmatch(longest) is not None
