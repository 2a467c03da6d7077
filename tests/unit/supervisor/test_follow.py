"""Following logs: whole lines, a prefix for each log, colour only on terminals."""

import io
from pathlib import Path

import pytest

from wsd.supervisor.logs.follow import MAX_LINE_BYTES, LogFollower, tail
from wsd.supervisor.logs.prefixes import prefixes, use_colour
from wsd.supervisor.logs.reading import read


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "expected"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_on_terminals_that_want_it(stream: io.StringIO, environ: dict[str, str], expected: bool) -> None:
    assert use_colour(stream, environ) is expected


def shown(follower: LogFollower) -> list[str]:
    return [f"{name} | {text}" for name, text in follower.lines()]


def test_only_new_and_whole_lines_are_shown(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text("old\n")
    follower = LogFollower({"one": one, "longer": two})
    assert shown(follower) == []
    with one.open("a") as log:
        log.write("first\nsec")
    two.write_bytes(b"made later \xff\n")
    assert shown(follower) == ["one | first", "longer | made later \ufffd"]
    with one.open("a") as log:
        log.write("ond\n\n")
    assert shown(follower) == ["one | second", "one | "]


def test_a_log_that_was_cut_is_read_from_its_begin(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a long line that was there\n")
    follower = LogFollower({"x": log})
    log.write_text("new\n")
    assert shown(follower) == ["x | new"]


def test_each_name_has_its_colour_and_all_have_one_width() -> None:
    assert prefixes(["a", "long"], colour=True) == {"a": "\x1b[36ma    | \x1b[0m", "long": "\x1b[32mlong | \x1b[0m"}
    assert prefixes(["a", "long"], colour=False) == {"a": "a    | ", "long": "long | "}


def test_a_log_may_be_added(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("before\nsince then\n")
    follower = LogFollower({"a": tmp_path / "a"})
    follower.add("b", tmp_path / "b", len("before\n"))
    assert shown(follower) == ["b | since then"]


def test_the_tail_is_of_this_process_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\nafter 1\nafter 2\n")
    assert tail(log, 7, 10) == ["after 1", "after 2"]
    assert tail(log, 7, 1) == ["after 2"]
    assert tail(log, 1000, 1) == []
    assert tail(tmp_path / "absent", 0, 1) == []


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    follower = LogFollower({"x": log})
    shown: list[tuple[str, str]] = []
    for _ in range(9):
        with log.open("ab") as writer:
            writer.write(b"x" * 100_000)
        shown += follower.lines()
    assert [len(text) for _, text in shown] == [MAX_LINE_BYTES] * 3
    with log.open("ab") as writer:
        writer.write(b"end\nnext\n")
    assert [text[-4:] for _, text in follower.lines()] == ["xend", "next"]
    assert max(len(line.text) for line in read("x", log)) == MAX_LINE_BYTES
