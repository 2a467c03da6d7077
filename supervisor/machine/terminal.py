"""Printing to the terminal, safely. Commands print all text through this module.

Names, close reasons, headers, log lines and file names come from strangers. A terminal would obey control sequences in
them, rich would interpret markup, and bidirectional overrides could make one text look like another. So commands print
lines with `say`, cells of tables with `cell`, and JSON with `show_json`.

Text is escaped for pipes and files in the same way, because a file may be shown on a terminal later. Colours that an
application printed are escaped, too: its standard output is a file, and programs should colour only terminals.
"""

import json
import sys
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from wsd.worker.contract.escaping import escape, to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LINE_LENGTH = 16_384
"""Maximum width of a printed line, in columns. The rest of the line is in the log."""

CELL_LENGTH = 4000
"""Maximum width of a cell, in columns: more than the longest name that wsd accepts, after escaping."""


def shown(text: str, length: int = LINE_LENGTH, *, keep: str = "\t") -> str:
    """Return a text as one line that is safe to print, at most `length` columns wide.

    `keep` lists control characters that are not escaped.
    """
    return cut(escape(text[: length + 1], keep), length)


def cut(text: str, width: int) -> str:
    """Cut a text that is wider than `width` columns, and put an ellipsis at its end."""
    if len(text) <= width and text.isascii():
        return text
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def say(text: str, *, prefix: str = "", err: bool = False) -> None:
    """Print one line. `prefix` is not escaped, so it must be wsd's own; it may hold colours."""
    typer.echo(prefix + shown(text), err=err)


def show_file(text: str) -> None:
    """Print the text of a file: unchanged into a pipe, escaped line by line on a terminal."""
    if not sys.stdout.isatty():
        typer.echo(text.encode("utf-8", "surrogateescape"), nl=False)  # file names in it may hold any byte
        return
    for line in text.rstrip("\n").split("\n"):
        say(line)


def show_json(answer: object) -> None:
    """Print an answer as indented JSON in ASCII, for programs."""
    typer.echo(to_json(answer, indent=2))


def show_json_line(line: str | bytes) -> None:
    """Print a line of JSON as ASCII, without spaces."""
    typer.echo(to_json(json.loads(line), separators=(",", ":")))


def cell(text: object, style: str = "") -> "Text":
    """Return a cell for a table of rich, which shows the text without interpreting markup."""
    from rich.text import Text  # noqa: PLC0415

    return Text(shown(str(text), CELL_LENGTH, keep=""), style)


def console(*, stderr: bool = False) -> "Console":
    """Return a console of rich that does not interpret markup."""
    from rich.console import Console  # noqa: PLC0415

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - rich calls this in an except block, and would choose the exit code itself

    return Screen(stderr=stderr, markup=False, emoji=False, highlight=False)


def cleaned(value: Any) -> Any:
    """Return decoded JSON with all its strings and keys escaped by `shown`."""
    match value:
        case str():
            return shown(value, CELL_LENGTH, keep="")
        case list():
            return [cleaned(each) for each in value]
        case dict():
            return {cleaned(key): cleaned(each) for key, each in value.items()}
    return value


def show_traceback(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, escaped, because the message of an exception may hold anything. For `sys.excepthook`."""
    for part in traceback.format_exception(kind, exc, trace):
        for line in part.rstrip("\n").split("\n"):
            say(line, err=True)
