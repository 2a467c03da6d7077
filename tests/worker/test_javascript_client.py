"""What the client in JavaScript promises to an application, in each release of Node that it supports."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apps import APPS
from tests.support.misbehaving_hub import Limits, MisbehavingHub
from tests.support.misbehaving_hub.faults import Say
from tests.support.node_programs import node_program
from tests.support.waiting import long_run

NODES = ["node", pytest.param("node22", marks=long_run), pytest.param("node24", marks=long_run)]
CHECKS = re.findall(r"^  async (\w+)\(\) \{$", (APPS / "client_checks.mjs").read_text("utf-8"), re.MULTILINE)
assert len(CHECKS) > 10


@pytest.fixture
def hub() -> Iterator[MisbehavingHub]:
    with MisbehavingHub(always=[Say((b"\x00\xff", b"{}"))], limits=Limits(max_message_bytes=65_536)) as running:
        yield running


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("check", CHECKS)
def test_the_client_in_javascript(hub: MisbehavingHub, tmp_path: Path, check: str, node: str) -> None:
    """The program ends by itself: a client that is closed keeps no process alive."""
    command = [*node_program("client_checks", tmp_path, node=node), check, hub.url]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.returncode) == ("ok\n", 0), result.stdout + result.stderr


def test_without_a_websocket_one_line_says_what_to_do(tmp_path: Path) -> None:
    command = node_program("client_checks", tmp_path)
    program = 'import { WsdClient } from "./client.mjs"; new WsdClient("ws://127.0.0.1:9/ws")'
    without = [command[0], "--input-type=module", "--eval", f"delete globalThis.WebSocket; {program}"]
    result = subprocess.run(without, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("TypeError: ")]
    assert "--experimental-websocket" in line
    assert "{ WebSocket: " in line
