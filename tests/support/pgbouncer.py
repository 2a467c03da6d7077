"""A PgBouncer before a PostgreSQL of the tests' own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import unused_port
from tests.support.postgres import USER, Postgres
from tests.support.waiting import until


def find_pgbouncer() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@contextmanager
def pgbouncer(before: Postgres, mode: str) -> Iterator[int]:
    """Run a PgBouncer in a mode, `transaction` or `session`, and yield its port."""
    program = find_pgbouncer()
    assert program is not None
    port = unused_port()
    with tempfile.TemporaryDirectory(prefix="wsd-pgbouncer-") as name:
        directory = Path(name)
        settings = directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={before.port} user=owner\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {mode}\nlogfile = {directory / 'log'}\n"
        )
        other = {}
        if os.getuid() == 0:
            shutil.chown(directory, USER)
            settings.chmod(0o644)
            other = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []}
        process = subprocess.Popen([program, "-q", settings], cwd=directory, **other)  # type: ignore[call-overload]
        try:
            log = directory / "log"
            until(lambda: log.exists() and "process up" in log.read_text(), "PgBouncer")
            yield port
        finally:
            process.terminate()
            process.wait(10)
