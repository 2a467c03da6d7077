"""The lock on a state directory: one supervisor holds it, for as long as its process lives."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from wsd.supervisor.errors import CommandError
from wsd.supervisor.machine.pidfd import pidfd_of
from wsd.supervisor.machine.private_files import open_private

LOCK_SECONDS = 0.5
"""How long a start waits for the lock: a command that looks whether it is held shares it for a moment."""


class DirectoryLock:
    """The file `lock` in a state directory, with flock(2) on it and the pid of its holder in it.

    Somebody may remove the file while it is held. Its holder is then found by its open descriptor, and the file is
    made again by `restore`.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "lock"
        self._root = root
        self._fd: int | None = None

    def acquire(self, inherited: int = -1) -> None:
        """Hold the lock until `release`, or until this process ends.

        `inherited` is the descriptor by which this process holds the lock already, see `keep_open`.

        Raises CommandError when another supervisor holds the lock, and OSError.
        """
        if inherited >= 0 and self._is_of_file(inherited):
            os.set_inheritable(inherited, False)
            self._fd = inherited
            return
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            if self._try_acquire():
                if (holder := self._holder_of_removed_file()) is None:
                    return
                self.release()
            else:
                holder = self.holder()
            if time.monotonic() > deadline:
                raise CommandError(
                    f"a supervisor (pid {holder}) runs in {self._root} already: `wsd stop` ends it, "
                    "--state-dir starts another cluster"
                )
            time.sleep(0.02)

    def release(self) -> None:
        if self._fd is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def keep_open(self) -> int:
        """Let the program that this process executes next inherit the lock; return its descriptor."""
        assert self._fd is not None
        os.set_inheritable(self._fd, True)
        return self._fd

    def restore(self) -> bool:
        """Make the file again if somebody has removed it while we hold the lock; return whether that was so.

        Raises CommandError when another supervisor has taken the lock meanwhile, and OSError.
        """
        held = self._fd
        if held is None or self._is_of_file(held):
            return False
        if not self._try_acquire():
            raise CommandError(f"the supervisor (pid {self.holder()}) has taken {self._root}, too")
        os.close(held)
        return True

    def holder(self) -> int | None:
        """Return the pid of the supervisor that holds the lock, or None. Raises ConfigError for a file not ours."""
        try:
            fd = open_private(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return self._holder_of_removed_file()
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
        """Return a pidfd of the supervisor that holds the lock: a process that really has the file open.

        Returns None when there is no such process, or we cannot see it: another user's, or outside of our container.
        """
        pid = self.holder()
        if not pid:
            return None
        try:
            pidfd = pidfd_of(pid)
        except OSError:
            return None
        if self._is_open_in(pid):
            return pidfd
        os.close(pidfd)
        return None

    def _try_acquire(self) -> bool:
        """Return whether the lock was free, and now is ours. Raises OSError, or ConfigError for a file not ours."""
        fd = open_private(self.path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_of_file(fd):
                raise FileNotFoundError  # its last holder removed it in between
        except (BlockingIOError, FileNotFoundError):
            os.close(fd)
            return False
        self._fd = fd
        with suppress(OSError):  # `wsd stop` on a full disk needs the lock, not the pid in its file
            os.ftruncate(fd, 0)
            os.write(fd, f"{os.getpid()}\n".encode())
        return True

    def _is_of_file(self, fd: int) -> bool:
        """Tell whether a descriptor is of the file that is there now."""
        try:
            return os.path.samestat(os.fstat(fd), self.path.stat())
        except OSError:
            return False

    def _holder_of_removed_file(self) -> int | None:
        """Find a supervisor whose lock file was removed. It restores the file within a second, and runs meanwhile."""
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if int(path.name) == os.getpid() or not _may_be_supervisor((path / "cmdline").read_bytes()):
                    continue
                if self._is_open_in(int(path.name), removed_only=True):
                    return int(path.name)
        return None

    def _is_open_in(self, pid: int, *, removed_only: bool = False) -> bool:
        """Tell whether a process has the file open, or one that was removed from its place."""
        removed = f"{self._root.resolve() / self.path.name} (deleted)"
        with suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    if str(descriptor.readlink()) == removed:
                        return True
                    if not removed_only and os.path.samestat(descriptor.stat(), self.path.stat()):
                        return True
        return False


def _may_be_supervisor(command_line: bytes) -> bool:
    """Tell whether to look at the descriptors of a process. Workers may have a great many, so they are left out."""
    return b"wsd" in command_line and b"wsd.worker" not in command_line
