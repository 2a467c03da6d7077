"""The files of a running cluster, below one directory."""

from contextlib import suppress
from pathlib import Path

from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.private_files import check_directory, keep_secret, make_directory, write_private
from wsd.supervisor.state_dir.lock import DirectoryLock
from wsd.supervisor.state_dir.records import SavedState
from wsd.supervisor.state_dir.sockets import remove_dead_sockets, socket_directory


class StateDir:
    """The state directory `root`: the paths of its files, and what is made and removed there with a cluster.

    The sockets may be elsewhere, see `socket_directory`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = DirectoryLock(root)
        self.sockets = socket_directory(root)
        self.logs = root / "logs"
        self.nginx = root / "nginx"
        self.valkey = root / "valkey"
        self.control_socket = self.sockets / "control.sock"
        self.valkey_socket = self.sockets / "valkey.sock"
        self.events = self.logs / "events.jsonl"
        self.operator_key_path = root / "operator.key"
        self.open_alerts = root / "open_alerts.json"
        self._directories = (self.logs, self.nginx, self.valkey, self.sockets)
        self._state_path = root / "state.json"
        self._operator_key = ""

    def worker_socket(self, slot: int, incarnation: int | None = None) -> Path:
        """Return the path that nginx knows, or the path that an incarnation binds until it is ready."""
        return self.sockets / (f"worker-{slot}.sock" if incarnation is None else f"worker-{slot}.{incarnation}.sock")

    def relay_socket(self, incarnation: int | None = None) -> Path:
        """Return the path where the relay that serves is asked, or the path that an incarnation binds until then."""
        return self.sockets / ("relay.sock" if incarnation is None else f"relay.{incarnation}.sock")

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def operator_key(self) -> str:
        """Return the key by which the workers know the supervisor, and the supervisor knows its operator.

        It is made when it is first asked for, and the supervisors that follow use the same.

        Raises ConfigError when the file is not ours.
        """
        if not self._operator_key:
            self._operator_key = keep_secret(self.operator_key_path)
        return self._operator_key

    def dashboard_secret(self) -> str:
        """Return the key from which the token and the cookies of the dashboard are derived. It outlives the cluster.

        Raises ConfigError when the file is not ours, and CommandError when it cannot be written.
        """
        try:
            return keep_secret(self.root / "dashboard.key")
        except OSError as exc:
            raise self._unusable(exc) from None

    def check(self) -> None:
        """Check that our directories belong to us, and that others cannot write there. Raises ConfigError."""
        for path in (self.root, *self._directories):
            with suppress(FileNotFoundError):
                try:
                    check_directory(path)
                except PermissionError:
                    raise ConfigError(
                        f"{path} cannot be looked at: choose another with --state-dir, or run wsd as its owner"
                    ) from None

    def acquire(self, inherited: int = -1) -> None:
        """Make the directory, and hold the lock on it until `lock.release`, or until this process ends.

        `inherited` is the descriptor by which this process holds the lock already, or -1.

        Raises CommandError when that is not permitted, or another supervisor holds it.
        """
        try:
            make_directory(self.root)
            for path in self._directories:
                if path.is_dir():
                    make_directory(path)
            self.check()
            self.lock.acquire(inherited)
        except OSError as exc:
            raise self._unusable(exc) from None

    def create(self) -> None:
        """Make what a cluster needs below a directory whose lock is held. Raises CommandError."""
        try:
            for path in self._directories:
                path.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise self._unusable(exc) from None
        self.check()

    def restore(self) -> list[str]:
        """Make again what somebody has removed from a directory whose lock we hold, and return the names.

        A missing state.json is only named: the caller writes it.

        Raises CommandError or OSError when that is not possible.
        """
        needed = (self.root, *self._directories)
        missing = [path.name for path in needed if not path.is_dir()]
        if missing:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.create()
        if self.lock.restore():
            missing.append(self.lock.path.name)
        if self._operator_key and not self.operator_key_path.exists():
            write_private(self.operator_key_path, self._operator_key)
            missing.append(self.operator_key_path.name)
        if not self._state_path.exists():
            missing.append(self._state_path.name)
        return missing

    def write_state(self, state: SavedState) -> None:
        """Replace state.json as a whole: a reader, or a crash, sees the old one or the new one. Raises OSError."""
        write_private(self._state_path, state.to_json())

    def read_state(self) -> SavedState:
        """Return what the previous supervisor has recorded; nothing when it ended cleanly. Raises OSError."""
        try:
            text = self._state_path.read_text("utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            return SavedState()
        return SavedState.from_json(text)

    def clean(self) -> None:
        """Remove what only a running cluster needs: sockets, keys and state. Logs and data stay."""
        self.clean_sockets()
        with suppress(OSError):  # somebody has put another file there
            self.sockets.rmdir()
        self._state_path.unlink(missing_ok=True)
        self.operator_key_path.unlink(missing_ok=True)

    def clean_sockets(self) -> None:
        """Remove the sockets on which nobody listens."""
        remove_dead_sockets(self.sockets)

    def _unusable(self, exc: OSError) -> CommandError:
        where = exc.filename or self.root
        return CommandError(
            f"cannot use the state directory {self.root}: {where}: {exc.strerror}; choose another with --state-dir"
        )
