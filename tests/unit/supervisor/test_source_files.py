"""Which changes of files count for `wsd dev`."""

from pathlib import Path

import pytest

from wsd.supervisor.dev.source_files import SourceFiles, summary

ROOT = Path("/home/ann/.projects/chat")
FILES = SourceFiles((ROOT,), ROOT / "wsd.toml")


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("chat.py", True),
        ("rooms/lobby.py", True),
        ("wsd.toml", True),
        ("rooms/wsd.toml", False),
        ("chat.db", False),
        (".#chat.py", False),
        ("chat.py~", False),
        (".venv/lib/x.py", False),
        ("env/lib/python3.11/site-packages/x.py", False),
        ("__pycache__/chat.cpython-311.pyc", False),
        ("node_modules/x/y.py", False),
    ],
)
def test_code_counts_and_what_others_write_does_not(name: str, counts: bool) -> None:
    assert FILES.counts(ROOT / name) is counts


def test_settings_elsewhere_are_watched_too() -> None:
    elsewhere = SourceFiles((ROOT,), Path("/etc/chat/wsd.toml"))
    assert FILES.watched == (ROOT,)
    assert elsewhere.watched == (ROOT, Path("/etc/chat"))
    assert elsewhere.counts(Path("/etc/chat/wsd.toml"))
    assert not elsewhere.counts(Path("/etc/chat/hook.py"))


def test_many_files_are_named_by_one_of_them() -> None:
    assert summary([ROOT / "b.py", ROOT / "a.py"]) == "a.py and b.py changed"
    assert summary([ROOT / f"{name}.py" for name in "cab"]) == "a.py and 2 other files changed"
