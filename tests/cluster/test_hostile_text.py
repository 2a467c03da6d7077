"""Hostile text in the output of every command, into a pipe and on a terminal: nothing of it acts or hides."""

import contextlib
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
import typer.main
from websockets.sync.client import connect

from tests.support.cluster import WSD, Cluster
from tests.support.waiting import long_run, until
from wsd.supervisor.cli.app import app
from wsd.worker.contract.escaping import escape
from wsd.worker.contract.events import Event

TITLE = "\x1b]0;owned\x07"
HOSTILE = f"[/x][bold]b :smile: {TITLE}\x1b[41m\x9b2J\x7f\u202e\u200b\u2028"
"""Sets a title and a background, clears the screen, turns the direction of writing, and is markup of rich."""

NAMES = (
    "[/x]",
    "[bold]b[/bold]",
    ":smile:",
    "[link=http://x.example]y[/link]",
    "z" + "\u0301" * 60,
    "漢" * 60,
)
"""Names that wsd admits."""

OTHER_STATE = f"elsewhere {TITLE}"
"""A state directory in which nothing runs: its path is in each error."""

CASES: dict[str, list[list[str]]] = {
    "start": [
        ["--check"],
        ["--app", HOSTILE],
        ["--workers", HOSTILE],
        ["--config", HOSTILE],
        ["--no-such", HOSTILE],
        [HOSTILE],
    ],
    "dev": [["--workers", HOSTILE], ["--reload-dir", HOSTILE], ["--port", HOSTILE]],
    "status": [[], ["--json"], ["--nodes"], ["--live"], ["--state-dir", OTHER_STATE]],
    "stop": [["--state-dir", OTHER_STATE], ["--timeout", HOSTILE]],
    "restart": [["9"], [HOSTILE]],
    "scale": [[HOSTILE]],
    "rebalance": [[], [HOSTILE], ["--node", HOSTILE], ["--nodes"]],
    "reload": [["--state-dir", OTHER_STATE], ["--config", HOSTILE]],
    "drain": [["9"], [HOSTILE]],
    "resume": [["9"], [HOSTILE]],
    "upgrade": [["--state-dir", OTHER_STATE]],
    "sessions": [[], ["--json"], ["--user", HOSTILE], ["--user", NAMES[0]]],
    "channels": [[], ["--json"], ["--limit", HOSTILE]],
    "trace": [["closer"], ["closer", "--json"], [NAMES[0]], [HOSTILE]],
    "kick": [[HOSTILE], ["kicked [/x]"], [HOSTILE, "--json"]],
    "events": [["-n", "0"], ["-n", "0", "--json"], ["--since", HOSTILE]],
    "logs": [["-n", "0"], ["-n", "0", "1"], ["--grep", "owned"], ["--grep", f"({HOSTILE}"], [HOSTILE]],
    "publish": [["room", HOSTILE, "--text"], [HOSTILE, "1"], ["room", "{" + HOSTILE]],
    "archive": [
        [],
        [HOSTILE],
        ["prune", "--older-than", HOSTILE],
        ["prune", "--older-than", "1d", "--channel", HOSTILE],
    ],
    "history": [["room"], ["room", "--json"], [HOSTILE]],
    "presence": [["room"], [HOSTILE]],
    "tail": [["room", "--last", HOSTILE], [HOSTILE]],
    "token": [["--user", HOSTILE], ["--user", "ann", "--ttl", HOSTILE], ["--user", "ann", "--claim", HOSTILE]],
    "alerts": [["test"], [HOSTILE]],
    "doctor": [[], ["--json"]],
    "bench": [["--connections", "4", "--duration", "0.3"], ["--connections", HOSTILE]],
    "chaos": [["--faults", HOSTILE], ["--state-dir", OTHER_STATE]],
    "init": [["--postgres", "--table", HOSTILE], [HOSTILE], []],
    "render-nginx": [[], ["--output", f"no/{HOSTILE}"], ["--config", HOSTILE]],
    "config": [[], ["--config", HOSTILE]],
    "completion": [["bash"], [HOSTILE]],
}


def test_every_command_has_a_case() -> None:
    assert set(CASES) == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("hostile"), "--workers", "2") as running:
        yield running


@pytest.fixture(scope="module")
def hostile(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster after strangers have written into everything that they can reach."""
    url = f"ws://127.0.0.1:{cluster.port}/ws?user_id="
    with connect(url + "closer") as closer:
        closer.recv()
        closer.close(4000, f"{TITLE}[/x]\u202e")
    clients = contextlib.ExitStack()
    for name in (*NAMES, "kicked [/x]", "kicked [/x]"):
        clients.enter_context(connect(url + quote(name))).recv()
    for name in ("worker-1", "nginx"):  # as an application prints, and as nginx logs where an operator wants headers
        with cluster.state_dir.log(name).open("ab") as log:
            log.write(f"{HOSTILE}\rover\nundecodable \xff\n".encode("utf-8", "replace") + b"\xff\xfe\n")
    event = Event(at=time.time(), source="worker-1", level="warning", text=f"closed user {HOSTILE}")
    with cluster.state_dir.events.open("a") as events:
        events.write(event.to_json() + "\n")
    assert cluster.wsd("publish", "room", HOSTILE, "--text").returncode == 0
    until(lambda: cluster.wsd("trace", "closer").returncode == 0, "the trace of a connection that is over")
    with clients:
        yield cluster


@pytest.mark.parametrize(
    ("command", "which"),
    [(command, slice(2)) for command in sorted(CASES)]
    + [pytest.param(command, slice(2, None), marks=long_run) for command in sorted(CASES) if CASES[command][2:]],
)
def test_a_command_prints_no_character_that_acts_or_hides(
    hostile: Cluster, command: str, which: slice, tmp_path: Path
) -> None:
    directory = tmp_path if command == "init" else hostile.directory
    for arguments in CASES[command][which]:
        left = on_a_terminal([command, *arguments], directory, hostile.env).replace("\n", "").replace("\t", "")
        assert escape(left) == left, arguments
        assert "Traceback" not in left


@pytest.mark.parametrize("command", sorted({"status", "sessions", "channels", "trace", "events", "logs", "doctor"}))
def test_output_into_a_pipe_is_safe_to_show_later(hostile: Cluster, command: str) -> None:
    for arguments in CASES[command][:2]:
        code, out, err = run([command, *arguments], hostile.directory, hostile.env)
        assert (code, err) == (0, "")
        left = out.replace("\n", "").replace("\t", "")
        assert escape(left) == left, arguments
        assert out.isascii() or "--json" not in arguments


def test_markup_in_names_is_shown_as_it_is(hostile: Cluster) -> None:
    _, out, _ = run(["sessions"], hostile.directory, hostile.env)
    for name in NAMES:
        assert escape(name) in out
    _, out, _ = run(["logs", "nginx", "--grep", "owned"], hostile.directory, hostile.env)
    assert r"[/x][bold]b :smile: \x1b]0;owned\x07" in out
    _, out, _ = run(["events", "-n", "0"], hostile.directory, hostile.env)
    assert escape(HOSTILE) in out


def test_the_foreground_shows_the_logs_as_text(hostile: Cluster) -> None:
    until(lambda: r"\x1b]0;owned\x07" in hostile.output, "the line in the foreground")
    left = hostile.output.replace("\n", "").replace("\t", "")
    assert escape(left) == left


def run(arguments: Sequence[str], directory: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    done = subprocess.run([*WSD, *arguments], cwd=directory, env=env, capture_output=True, timeout=60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


COLOURS = re.compile(r"\x1b\[(?!41m)[\d;]*m")
"""What wsd colours with, not HOSTILE's."""

PROGRESS = re.compile(r"\x1b\[(\?25[lh]|[12]?[AK])|\r")
"""What a bar of rich moves the cursor with."""


def on_a_terminal(arguments: Sequence[str], directory: Path, env: Mapping[str, str]) -> str:
    """Return the output of a command on a terminal, without the colours and cursor movements of the command itself."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [*WSD, *arguments], cwd=directory, env={**env, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        out = b""
        while select.select([master], [], [], 60)[0]:
            try:
                out += os.read(master, 65536)
            except OSError:  # its last writer is gone
                break
        process.wait(60)
    finally:
        os.close(master)
    return PROGRESS.sub("", COLOURS.sub("", out.decode()))
