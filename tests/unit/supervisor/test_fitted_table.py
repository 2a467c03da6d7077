"""Tables: whole in a pipe, and on a terminal as wide as it is."""

import pytest

from wsd.supervisor.cli.fitted_table import GAP, Column, fit
from wsd.supervisor.cli.session_tables import SESSION_COLUMNS
from wsd.supervisor.cli.status_table import COLUMNS

THREE = (Column("A"), Column("B", 1, least=4), Column("C", 2))


@pytest.mark.parametrize(
    ("whole", "room", "widths"),
    [
        ((5, 10, 5), 80, [5, 10, 5]),  # all of it
        ((5, 10, 5), 22, [5, 10, 5]),  # just so
        ((5, 10, 5), 21, [5, 9, 5]),  # the second is cut
        ((5, 10, 5), 16, [5, 4, 5]),
        ((5, 10, 5), 15, [5, 9, 0]),  # the third goes, and the second grows
        ((5, 10, 5), 10, [5, 4, 0]),
        ((5, 10, 5), 9, [5, 0, 0]),
        ((5, 10, 5), 1, [5, 0, 0]),  # the first never goes
        ((5, 2, 5), 14, [5, 2, 5]),  # narrower than its least width
    ],
)
def test_the_least_important_columns_are_shortened_or_left_out_first(
    whole: tuple[int, ...], room: int, widths: list[int]
) -> None:
    assert fit(THREE, whole, room) == widths


def left(columns: tuple[Column, ...], whole: list[int], room: int) -> list[str]:
    widths = fit(columns, whole, room)
    assert sum(widths) + GAP * (sum(map(bool, widths)) - 1) <= room
    return [column.name for column, width in zip(columns, widths, strict=True) if width]


def test_the_status_on_a_terminal_of_80_columns() -> None:
    whole = [max(len(column.name), 8) for column in COLUMNS]
    assert left(COLUMNS, whole, 80) == ["NAME", "STATE", "UPTIME", "RESTARTS", "CPU %", "RSS", "CONNS", "MSG/S IN/OUT"]
    assert left(COLUMNS, whole, 200) == [column.name for column in COLUMNS]


def test_sessions_on_a_terminal_of_80_columns_keep_their_whole_ids() -> None:
    whole = [32, 200, 9, 13, 30, 6, 10, 300]
    assert left(SESSION_COLUMNS, whole, 80) == ["SESSION", "USER", "STATE", "WORKER", "SEEN"]
    assert fit(SESSION_COLUMNS, whole, 80)[0] == 32
