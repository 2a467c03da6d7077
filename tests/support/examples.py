"""The examples of the repository, and the page that shows most of them."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

from tests.support.cluster import ROOT

EXAMPLES = ROOT / "examples"
DOCUMENT = (ROOT / "docs" / "applications.md").read_text("utf-8")


def example(name: str) -> Any:
    """Import an example, and return its module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
