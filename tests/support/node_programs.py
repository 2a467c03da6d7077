"""The JavaScript client in programs of Node."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.apps import APPS
from tests.support.cluster import ROOT
from tests.support.npm import npm_package

NODE = shutil.which("node")


def node_program(name: str, directory: Path, *beside: str, node: str = "node") -> list[str]:
    """Copy a program of `tests/apps`, the modules `beside` it and the JavaScript client; return the command of it.

    `node`: the one on PATH, or a package of `tests/npm`. The test is skipped where there is no Node that has a
    WebSocket. Node has one by itself from 22 on.
    """
    found = NODE if node == "node" else str(npm_package(node) / "bin" / "node")
    if found is None:
        pytest.skip("no node on PATH")
    options = node_options(found)
    shutil.copy(ROOT / "clients" / "js" / "wsd-client.js", directory / "client.mjs")
    for each in (name, *beside):
        shutil.copy(APPS / f"{each}.mjs", directory)
    return [found, *options, str(directory / f"{name}.mjs")]


def node_options(node: str | None = NODE) -> list[str]:
    """Return the options with which a Node has a WebSocket. The test is skipped if none helps."""
    assert node is not None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.removeprefix("v").partition(".")[0])
    if major < 20:
        pytest.skip(f"node {version.strip()} has no WebSocket")
    return [] if major >= 22 else ["--experimental-websocket", "--no-warnings"]
