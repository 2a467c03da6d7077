"""The way of all text to the terminal.

Names, close reasons, headers, log lines and file names come from strangers. A terminal would carry out the control
sequences in them, rich would carry out the markup, and bidirectional overrides would let one text look like another.
So commands print lines with `say`, cells of tables with `cell`, and JSON with `show_json`, and nothing in another way.

Escaping is the same for a terminal, a pipe and a file: what is in a file is shown on a terminal later. Colours that
an application printed are escaped, too: its standard output is a file, and programs colour terminals only.
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
"""Columns of a line that are shown. The rest of the line is in the log."""

CELL_LENGTH = 4000
"""Columns of a cell that are shown: more than any name has that wsd admits, escaped."""


def shown(text: str, length: int = LINE_LENGTH, *, keep: str = "\t") -> str:
    """Return the text as one line that is safe to print, with an ellipsis where it was cut."""
    return cut(escape(text[: length + 1], keep), length)


def cut(text: str, width: int) -> str:
    """Return the text with an ellipsis at its end where it is wider than `width` columns."""
    if len(text) <= width and text.isascii():
        return text
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def say(text: str, *, prefix: str = "", err: bool = False) -> None:
    """Print one line. `prefix` is wsd's own and may hold colours."""
    typer.echo(prefix + shown(text), err=err)


def show_file(text: str) -> None:
    """Print the text of a file: as it is into a pipe, line by line as `say` on a terminal."""
    if not sys.stdout.isatty():
        typer.echo(text.encode("utf-8", "surrogateescape"), nl=False)  # names of files may hold any byte
        return
    for line in text.rstrip("\n").split("\n"):
        say(line)


def show_json(answer: object) -> None:
    """Print an answer for programs, in ASCII."""
    typer.echo(to_json(answer, indent=2))


def show_json_line(line: str | bytes) -> None:
    """Print a line of JSON, in ASCII and without spaces."""
    typer.echo(to_json(json.loads(line), separators=(",", ":")))


def cell(text: object, style: str = "") -> "Text":
    """Return what a table of rich shows as it is."""
    from rich.text import Text  # noqa: PLC0415

    return Text(shown(str(text), CELL_LENGTH, keep=""), style)


def console(*, stderr: bool = False) -> "Console":
    """Return a console of rich that takes nothing in a text for markup."""
    from rich.console import Console  # noqa: PLC0415

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - rich calls this while it handles the error, and would choose the exit code itself

    return Screen(stderr=stderr, markup=False, emoji=False, highlight=False)


def cleaned(value: Any) -> Any:
    """Return decoded JSON with all its texts, and its keys, as `shown` returns them."""
    match value:
        case str():
            return shown(value, CELL_LENGTH, keep="")
        case list():
            return [cleaned(each) for each in value]
        case dict():
            return {cleaned(key): cleaned(each) for key, each in value.items()}
    return value


def show_traceback(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    """Print what a bug raised: the message of an exception may hold anything. For `sys.excepthook`."""
    for part in traceback.format_exception(kind, exc, trace):
        for line in part.rstrip("\n").split("\n"):
            say(line, err=True)
