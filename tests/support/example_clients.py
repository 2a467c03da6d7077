"""The clients in `examples/`, as modules and as programs of Node."""

import importlib.util
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.support.cluster import ROOT

NODE = shutil.which("node")


def node_options() -> list[str]:
    """What Node needs to have a WebSocket; it has one by itself from 22 on."""
    assert NODE is not None
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    major = int(version.removeprefix("v").partition(".")[0])
    if major < 20:
        pytest.skip(f"node {version.strip()} has no WebSocket")
    return [] if major >= 22 else ["--experimental-websocket", "--no-warnings"]


def client_module() -> Any:
    spec = importlib.util.spec_from_file_location("wsd_example_client", ROOT / "examples" / "client.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
