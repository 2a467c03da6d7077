"""The output of `wsd start`, over real pipes: readers that are gone, that stop reading, and that read JSON."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from wsd.supervisor.logs.console import MAX_WAITING_BYTES, Console
from wsd.supervisor.logs.json_lines import level_of, log_line

NOW = 1_795_524_238.0


class Pipe:
    """A pipe of one page, with a console that writes into it."""

    def __init__(self, stack: ExitStack, encoding: str = "utf-8") -> None:
        self.read_end, write_end = os.pipe()
        stack.callback(lambda: os.close(self.read_end) if self.read_end >= 0 else None)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        self.stream = stack.enter_context(os.fdopen(write_end, "w", encoding=encoding))

    def read_all(self, console: Console) -> bytes:
        """Read until the console has written all it has."""
        os.set_blocking(self.read_end, False)
        read = b""
        is_written = False
        while not is_written:
            is_written = console.flush(0.01)
            with suppress(BlockingIOError):
                while chunk := os.read(self.read_end, 65536):
                    read += chunk
        return read

    def close(self) -> None:
        os.close(self.read_end)
        self.read_end = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with ExitStack() as stack:
        yield Pipe(stack)


def test_a_reader_that_is_gone_stops_nothing(pipe: Pipe) -> None:
    console = Console(pipe.stream)
    pipe.close()
    for _ in range(3):
        console.say("hello")
        assert console.flush()


def test_a_line_is_printed_as_text_behind_its_coloured_prefix(pipe: Pipe) -> None:
    console = Console(pipe.stream)
    console.show("x", "a\tb\x1b]0;x\x07", "\x1b[36mx | \x1b[0m")
    assert console.flush()
    assert os.read(pipe.read_end, 4096) == b"\x1b[36mx | \x1b[0ma\tb\\x1b]0;x\\x07\n"


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", b"\\u65e5 \\xe9\n"), ("latin-1", b"\\u65e5 \xe9\n")])
def test_characters_that_the_encoding_lacks_are_escaped(encoding: str, expected: bytes) -> None:
    with ExitStack() as stack:
        pipe = Pipe(stack, encoding)
        console = Console(pipe.stream)
        console.say("日 é")
        assert console.flush()
        assert os.read(pipe.read_end, 4096) == expected


def test_a_reader_that_stops_blocks_no_process_and_is_told_what_it_missed(pipe: Pipe) -> None:
    console = Console(pipe.stream)
    line = "x" * 9999
    for _ in range(300):
        console.say(line)
    assert not console.flush(0.01)
    assert console.is_full
    read = pipe.read_all(console)
    console.say("on we go")
    shown = (read + pipe.read_all(console)).decode().splitlines()
    assert shown[-1] == "on we go"
    whole, missing = len(shown) - 2, 300 - (len(shown) - 2)
    assert shown[-2] == f"{missing} lines were not shown, because nobody read the output; `wsd logs` has them"
    assert shown[:-2] == [line] * whole
    assert whole * 10_000 < MAX_WAITING_BYTES + 100_000


def test_a_terminal_that_somebody_made_non_blocking_gets_all(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    console = Console(pipe.stream)
    for number in range(50):
        console.say(f"{number} {'x' * 1000}")
    assert [line.split()[0] for line in pipe.read_all(console).decode().splitlines()] == [
        str(number) for number in range(50)
    ]


def test_console_lines_are_json_if_the_log_format_is(pipe: Pipe) -> None:
    console = Console(pipe.stream, as_json=True)
    for text in ("", "  open   http://x/", "wsd is up"):
        console.say(text)
    console.show("nginx", "2026/11/24 12:25:30 [error] 12#0: refused", "nginx | ")
    assert console.flush()
    lines = [json.loads(line) for line in os.read(pipe.read_end, 4096).splitlines()]
    assert [(line["process"], line["stream"], line["level"], line["message"]) for line in lines] == [
        ("supervisor", "console", "info", "open   http://x/"),
        ("supervisor", "console", "info", "wsd is up"),
        ("nginx", "output", "error", "2026/11/24 12:25:30 [error] 12#0: refused"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "",
        '  File "x.py", line 1',
        "\x1b[31mred \x07 \u2028 漢 \ud800",
        "{",
        "{}",
        "[1]",
        "12",
        "null",
        '{"level": "info"}',
        '{"at": 1, "level": "info", "message": "x"}',
        '{"at": "x", "level": "info", "message": NaN}',
        '{"at": "x", "level": "info", "message": "x"} and more',
        '{"at": "2026-11-24T12:18:00.761+00:00", "level": "info", "message": "cut',
        '{"a":' * 100_000,
        "[" * 100_000,
    ],
)
def test_a_line_that_is_not_a_json_record_is_wrapped_in_one(text: str) -> None:
    written = log_line("worker-1", text, NOW)
    assert written.isprintable()
    found = json.loads(written)
    assert found == {"at": found["at"], "level": "info", "process": "worker-1", "stream": "output", "message": text}


def test_a_record_keeps_its_fields_and_says_whose_it_is() -> None:
    record = {
        "at": "2026-11-24T12:18:00.761+00:00",
        "level": "warning",
        "logger": "app",
        "message": "é",
        "process": "x",
    }
    found = json.loads(log_line("worker-1", json.dumps(record | {"exception": "a\nb"}), NOW))
    assert found == record | {"exception": "a\nb", "process": "worker-1", "stream": "log"}


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("2026/11/24 12:25:30 [emerg] 12#0: x", "critical"),
        ("2026/11/24 12:25:30 [warn] 12#0: x", "warning"),
        ("31301:M 24 Nov 2026 12:24:37.252 # Error", "warning"),
        ("31301:M 24 Nov 2026 12:24:37.252 * Ready", "info"),
        ("2026-11-24 12:18:00,761 ERROR app: x", "error"),
        ("CRITICAL:root:x", "critical"),
        ("INFO:     Started", "info"),
        ("an ERROR somewhere", "info"),
        ("2026/11/24 12:25:30 [strange] x", "info"),
    ],
)
def test_the_level_of_a_line_of_nginx_or_valkey_is_found(text: str, level: str) -> None:
    assert level_of(text) == level
