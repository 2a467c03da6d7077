"""Tables that fit on the terminal: the least important columns are cut or left out first. A pipe gets all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from wsd.supervisor.machine.terminal import cell, console

GAP = 1


@dataclass(frozen=True)
class Column:
    """A column of a table, and how it may be made to fit."""

    name: str
    rank: int = 0
    """The column with the highest rank is left out first. A column of rank 0 is always shown."""

    least: int | None = None
    """The width to which the column may be cut, in characters. None: it may not be cut."""

    right: bool = False
    """Whether the cells are aligned to the right, as numbers are."""


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table with a header row."""
    cells = [[each if isinstance(each, Text) else cell(each) for each in row] for row in rows]
    whole = [
        max(cell_len(column.name), *(row[number].cell_len for row in cells), 0) for number, column in enumerate(columns)
    ]
    screen = console()
    widths = fit(columns, whole, screen.width) if screen.is_terminal else whole
    screen.width = max(screen.width, sum(widths) + GAP * len(widths))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        if width:
            table.add_column(column.name, width=width, no_wrap=True, justify="right" if column.right else "left")
    for row in cells:
        table.add_row(*(each for each, width in zip(row, widths, strict=True) if width))
    screen.print(table)


def fit(columns: Sequence[Column], whole: Sequence[int], room: int) -> list[int]:
    """Return the width of each column, 0 for a column that is left out.

    `whole` is the width that each column needs to be shown uncut, `room` is the width of the terminal. Pure.
    """
    least = [min(need, column.least or need) for column, need in zip(columns, whole, strict=True)]
    kept = sorted(range(len(columns)), key=lambda index: columns[index].rank)
    while sum(least[index] + GAP for index in kept) - GAP > room and columns[kept[-1]].rank:
        kept.pop()
    widths = [least[index] if index in kept else 0 for index in range(len(columns))]
    spare = room - sum(widths) - GAP * (len(kept) - 1)
    for index in kept:
        more = max(0, min(spare, whole[index] - least[index]))
        widths[index] += more
        spare -= more
    return widths
