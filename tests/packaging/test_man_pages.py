"""The man pages: one for each command, with all that `--help` says, in the format that man reads."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from docs.site.packages.man_pages import escaped, man_pages, prose
from wsd.supervisor.cli.app import app

PAGES = man_pages("1.2.0", "2026-01-31")
GROUP: Any = typer.main.get_command(app)


def test_there_is_a_page_for_each_command() -> None:
    assert set(PAGES) == {"wsd.1", *(f"wsd-{name}.1" for name in GROUP.commands)}
    assert {line for line in PAGES["wsd.1"].splitlines() if line.endswith("(1)")} == {
        rf"\fBwsd\-{escaped(name)}\fR(1)" for name in GROUP.commands
    }


@pytest.mark.parametrize("name", GROUP.commands)
def test_a_page_has_every_option(name: str) -> None:
    options = [option for parameter in GROUP.commands[name].params for option in parameter.opts if option[0] == "-"]
    assert {option for option in options if escaped(option) not in PAGES[f"wsd-{name}.1"]} == set()
    assert r"\-\-help" in PAGES[f"wsd-{name}.1"]


def test_no_character_is_taken_for_a_request_or_an_escape() -> None:
    assert escaped(".x") == r"\&.x"
    assert escaped(r"a\b") == r"a\eb"
    assert escaped("'x' --y ~ ^") == r"\(aqx\(aq \-\-y \(ti \(ha"
    assert prose("as `wsd start -d` does") == r"as \fBwsd start \-d\fR does"


@pytest.mark.skipif(not shutil.which("mandoc"), reason="no mandoc here")
def test_mandoc_finds_nothing_wrong(tmp_path: Path) -> None:
    for name, text in PAGES.items():
        (tmp_path / name).write_text(text)
    lint = ["mandoc", "-T", "lint", "-W", "warning", *PAGES]
    done = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.skipif(not shutil.which("man"), reason="no man here")
def test_man_shows_the_page_of_a_command(tmp_path: Path) -> None:
    (tmp_path / "man1").mkdir()
    for name in ("wsd.1", "wsd-start.1"):
        (tmp_path / "man1" / name).write_text(PAGES[name])
    show = ["man", "--warnings", "-M", str(tmp_path), "wsd", "start"]
    done = subprocess.run(
        show, capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80"}
    )
    shown = re.sub(r".\x08", "", done.stdout)
    assert done.stderr == ""
    assert "Example" not in shown
    assert re.search(r"^ +--workers N\n +Number of worker processes$", shown, re.MULTILINE)
    assert re.search(r"^EXAMPLES\n +wsd start chat:app --workers 4", shown, re.MULTILINE)
