"""Copies of the applications in `tests.apps`, in the directory of a test."""

import shutil
from pathlib import Path

APPS = Path(__file__).parent.parent / "apps"


def source_of(name: str) -> str:
    """Return the code of an application in `tests.apps`."""
    return (APPS / f"{name}.py").read_text("utf-8")


def copy_app(name: str, directory: Path, more: str = "") -> str:
    """Copy an application into `directory`, as `name.py`, and return what `--app` calls it.

    The lines of `more` are appended: what they assign counts, and what they raise is raised at the import.
    """
    if more:
        (directory / f"{name}.py").write_text(f"{source_of(name)}\n{more}\n", "utf-8")
    else:
        shutil.copy(APPS / f"{name}.py", directory)
    return f"{name}:app"
