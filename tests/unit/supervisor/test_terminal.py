"""Text from strangers on the terminal: control characters are escaped, and nothing is taken for markup."""

import io
import json
import logging
import sys
import unicodedata
from typing import Any

import pytest
from rich.cells import cell_len

from wsd.supervisor.cli.finding_lines import print_finding
from wsd.supervisor.cli.session_tables import print_sessions
from wsd.supervisor.cli.status_table import print_status
from wsd.supervisor.control.status import ClusterStatus, ProcessStatus, RedisStatus
from wsd.supervisor.machine.terminal import cell, cleaned, console, cut, shown
from wsd.supervisor.monitoring.finding import warning
from wsd.worker.contract.escaping import escape, to_json
from wsd.worker.contract.events import Event, EventHandler
from wsd.worker.contract.log_format import JsonFormatter, LineFormatter

TITLE = "\x1b]0;x\x07"
"""Sets the title of a terminal's window."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, with spaces", "plain, with spaces"),
        ("漢字 résumé 🙂", "漢字 résumé 🙂"),
        (TITLE, r"\x1b]0;x\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x7f\x00\x08", r"\x7f\x00\x08"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u2028\u2029\x85\x0b\x0c", r"\u2028\u2029\x85\x0b\x0c"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("a\u200db\u200cc\u200b\ufeff\u00ad", r"a\u200db\u200cc\u200b\ufeff\xad"),
        ("\U000e0041\U000e01ef", r"\U000e0041\U000e01ef"),
        ("\ue000\U0010ffff\ufdd0", r"\ue000\U0010ffff\ufdd0"),
        ("\xa0\u3000", r"\xa0\u3000"),
        ("\u3164\u115f\u2800", r"\u3164\u115f\u2800"),
        ("\ud800", r"\ud800"),
        (b"\xff\x1b".decode("utf-8", "surrogateescape"), r"\xff\x1b"),
        ("e" + "\u0301" * 6, "e" + "\u0301" * 4 + r"\u0301\u0301"),
        ("\u0301a", r"\u0301a"),
        ("[/x][bold]:smile:", "[/x][bold]:smile:"),
    ],
)
def test_control_and_invisible_characters_are_escaped(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_no_character_of_a_category_that_acts_or_hides_is_left() -> None:
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            assert escape(chr(code)).isascii(), hex(code)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("short", 5, "short"), ("longer", 5, "long…"), ("漢字", 4, "漢字"), ("漢字漢", 4, "漢…"), ("漢字漢", 5, "漢字…")],
)
def test_a_text_is_cut_by_columns(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected
    assert cell_len(cut(text, width)) <= width


def test_a_shown_line_keeps_its_tabs_and_is_cut() -> None:
    assert shown("a\tb\n") == r"a	b\n"
    assert len(shown("\x1b" * 1_000_000)) < 20_000


def test_the_text_of_a_cell_is_shown_literally() -> None:
    screen = console()
    screen.file = io.StringIO()
    screen.print(cell(f"[/x][bold]b[/bold] :smile: [link=http://x]l[/link] {TITLE}\t"), "[red] :smile:")
    assert (
        screen.file.getvalue() == r"[/x][bold]b[/bold] :smile: [link=http://x]l[/link] \x1b]0;x\x07\t [red] :smile:"
        "\n"
    )


def test_json_is_printable_ascii() -> None:
    text = "\x7f\x9b\u202e\u2028\x1b\ud800漢"
    written = to_json({text: [text]})
    assert written.isascii()
    assert written.isprintable()
    assert json.loads(written) == {text: [text]}


def test_an_answer_is_cleaned_to_its_depth() -> None:
    assert cleaned({TITLE: [{"a": (TITLE)}, 1, None, True]}) == {
        r"\x1b]0;x\x07": [{"a": r"\x1b]0;x\x07"}, 1, None, True]
    }


def session(**changes: object) -> dict[str, Any]:
    known = {"session_id": "0" * 32, "user_id": "ann", "state": "connected", "worker_id": "worker-1-abcd"}
    return known | {"node_id": "host", "connected_at": 0.0, "last_seen": 0.0, "channels": ["news"]} | changes


def test_sessions_of_hostile_names_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[/x]", "[bold]", ":smile:", TITLE, "a\nb", "\u202e", "z" + "\u0301" * 200, "漢" * 200]
    sessions = [session(user_id=name, node_id=name, channels=[name, name]) for name in names]
    print_sessions({"sessions": sessions, "total": len(sessions)}, 0)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) == 1 + len(names) + 1
    for line, name in zip(lines[1:], names, strict=False):
        assert line.split()[:2] == ["0" * 32, escape(name)]
    assert escape(out.replace("\n", "")) == out.replace("\n", "")


def test_a_status_of_hostile_words_is_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    process = ProcessStatus(name="supervisor", state=TITLE)
    status = ClusterStatus(
        state=TITLE,
        problems=[f"worker-1 is failed; its log ends with: {TITLE}\n[/x]"],
        warnings=[],
        node_id="[/x]",
        url=TITLE,
        websocket_url="",
        state_dir=TITLE,
        supervisor=process,
        workers=[],
        nginx=None,
        valkey=None,
        redis=RedisStatus(url=f"redis://[/x]{TITLE}", embedded=False, reachable=False, error="[/y]\n"),
        nodes=[],
        connections_possible=1,
    )
    print_status(status)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5
    assert r"! worker-1 is failed; its log ends with: \x1b]0;x\x07\n[/x]" in out
    assert escape(out.replace("\n", "")) == out.replace("\n", "")


def test_a_finding_of_hostile_words_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_finding(warning("Redis", f"[/x]\n{TITLE}", f"[/y]{TITLE}"))
    assert capsys.readouterr().out == ("warning Redis: [/x]\\n\\x1b]0;x\\x07\n        -> [/y]\\x1b]0;x\\x07\n")


def record(message: str, *args: object, exc: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(exc), exc, None) if exc is not None else None
    return logging.LogRecord("wsd.worker", logging.WARNING, "", 0, message, args, exc_info)


def test_a_log_record_is_one_line_and_nothing_in_it_looks_like_another() -> None:
    forged = "2026-01-01 00:00:00,000 INFO forged"
    formatter = LineFormatter("%(levelname)s %(message)s")
    assert formatter.format(record("closed %s", f"a\n{forged}\r{forged}{TITLE}")) == (
        f"WARNING closed a\n    {forged}\\r{forged}\\x1b]0;x\\x07"
    )
    written = formatter.format(record("failed", exc=ValueError(f"x\n{forged}")))
    assert written.split("\n") == ["WARNING failed", "    ValueError: x", f"    {forged}"]


def test_a_log_record_as_json_is_one_line_of_ascii() -> None:
    written = JsonFormatter().format(record("closed %s", "a\n\u2028\x9b\ud800"))
    assert written.isascii()
    assert written.isprintable()


def test_an_event_is_one_line_whatever_its_text_is(tmp_path: Any) -> None:
    path = tmp_path / "events"
    EventHandler(str(path), "worker-1").emit(record("closed %s", "a\n\u2028\x9b\ud800\x7f"))
    (line,) = path.read_bytes().split(b"\n")[:-1]
    assert line.decode("ascii").isprintable()
    assert Event.from_json(line).text == "closed a \x9b\ud800\x7f"
