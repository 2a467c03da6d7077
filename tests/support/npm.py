"""The packages from npm that tests use. `npm ci --prefix tests/npm` installs them."""

from pathlib import Path

import pytest

NODE_MODULES = Path(__file__).parent.parent / "npm" / "node_modules"


def npm_package(name: str) -> Path:
    """Return the folder of a package, or skip the test where the package is not installed."""
    folder = NODE_MODULES / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not installed: run `npm ci --prefix tests/npm`")
    return folder
