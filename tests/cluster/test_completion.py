"""The scripts of `wsd completion`, used by real shells on a terminal."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import clean_env, wsd
from tests.support.waiting import long_run

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(wsd completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -U compinit; compinit -D; eval "$(wsd completion zsh)"'),
    "fish": (["fish"], "wsd completion fish > ~/.config/fish/completions/wsd.fish"),
}
"""How each shell is started, and the command that makes it complete, as `wsd completion --help` says."""

CONTROLS = re.compile(r"\x1b\[[?>\d;]*[A-Za-z]|\x1b[=>]|\x1b\][^\a]*\a")
"""What shells colour with and move the cursor with."""


def _marks(shell: str) -> list[pytest.MarkDecorator]:
    missing = pytest.mark.skipif(not shutil.which(shell), reason=f"no {shell} here")
    return [missing] if shell == "bash" else [missing, long_run]


class Terminal:
    """A shell on a terminal, at which a test types."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._seen = ""

    def type(self, keys: str) -> None:
        """Press keys, and forget what was shown before."""
        self._seen = ""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows a text since the last keys."""
        deadline = time.monotonic() + 30
        while text not in CONTROLS.sub("", self._seen):
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{text!r} was not shown, only {self._seen!r}"
            self._seen += os.read(self._master, 65536).decode(errors="replace")


@contextmanager
def terminal(shell: str, home: Path) -> Iterator[Terminal]:
    """Start a shell on a terminal, with wsd on its PATH, and let it complete wsd's commands."""
    command, set_up = SHELLS[shell]
    (home / ".config" / "fish" / "completions").mkdir(parents=True)
    (home / ".local" / "share" / "fish" / "generated_completions").mkdir(parents=True)  # fish would make all others
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = clean_env(HOME=str(home), PATH=path, TERM="xterm", PS1="> ")
    master, slave = pty.openpty()
    on_terminal = ["setsid", "--ctty", *command]
    process = subprocess.Popen(on_terminal, cwd=home, env=env, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    try:
        opened = Terminal(master)
        opened.type(f"{set_up}; echo set'' up\r")
        opened.wait_for("set up")
        yield opened
    finally:
        process.kill()
        process.wait(30)
        os.close(master)


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=_marks(shell)) for shell in SHELLS])
def test_a_shell_completes_commands_options_and_values(shell: str, tmp_path: Path) -> None:
    with terminal(shell, tmp_path) as shown:
        shown.type("wsd reb\t")
        shown.wait_for("rebalance")
        shown.type("\x15wsd start --no-n\t")
        shown.wait_for("--no-nginx")
        shown.type("\x15wsd alerts \t")
        shown.wait_for("test")


def test_the_shell_is_that_of_the_variable(tmp_path: Path) -> None:
    done = wsd("completion", cwd=tmp_path, env=clean_env(SHELL="/usr/local/bin/fish"))
    assert done.stdout.startswith("complete --command wsd ")


def test_another_shell_is_refused(tmp_path: Path) -> None:
    done = wsd("completion", cwd=tmp_path, env=clean_env(SHELL="/bin/ksh"))
    assert done.returncode == 2
    assert 'name a shell, bash, zsh or fish: SHELL is "ksh"' in done.stderr
