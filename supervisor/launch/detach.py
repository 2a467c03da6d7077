"""`wsd start --detach`: a supervisor without a terminal, and the command that waits until its cluster is ready.

The two share a pipe. The supervisor writes one byte into it when it is ready; if it ends before that, the pipe closes.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.errors import ExitCode
from wsd.supervisor.machine.private_files import append_to

READY_FD_ENV = "WSD_READY_FD"
"""The environment variable with the descriptor of the pipe."""


def start_detached(loaded: Loaded, arguments: Sequence[str]) -> int:
    """Start a supervisor without a terminal; return its exit code, or 0 once its cluster is ready.

    Until then the supervisor writes to our terminal. `arguments` are those of our command line.
    """
    read_end, write_end = os.pipe()
    argv = [sys.executable, "-P", "-m", "wsd.supervisor", *(a for a in arguments if a != "--detach")]
    process = subprocess.Popen(
        argv,
        env={**os.environ, READY_FD_ENV: str(write_end)},
        stdin=subprocess.DEVNULL,
        pass_fds=[write_end],
        start_new_session=True,
    )
    os.close(write_end)
    try:
        if os.read(read_end, 1):
            return ExitCode.OK
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
    finally:
        os.close(read_end)
    return process.wait()


def leave_terminal(ready_fd: int, log: Path) -> None:
    """Tell the waiting command that the cluster is ready, and write to the log from here on."""
    with append_to(log) as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    os.write(ready_fd, b"1")
    os.close(ready_fd)
