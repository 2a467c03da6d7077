"""Start a program that `wsd chaos` has ended, as it was before."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def start_again(command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None) -> None:
    """Start a program without a terminal, in a session of its own. The program outlives `wsd chaos`.

    `environment` None is our own.
    """
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )
    process.returncode = 0  # nobody waits for it here, and Python shall not complain about that
