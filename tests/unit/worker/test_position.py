"""Positions in histories: their text in Redis, and what is accepted from clients."""

import msgspec
import pytest

from wsd.worker.wire.position import MAX_EPOCH_LENGTH, MAX_OFFSET, NOWHERE, Position


@pytest.mark.parametrize("position", [Position(17, "5f0c"), Position(MAX_OFFSET, "a-b_C"), NOWHERE])
def test_a_position_is_read_back_from_its_text(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Position.parse(str(position).encode()) == position


@pytest.mark.parametrize(
    ("text", "position"),
    [("17:5f0c", Position(17, "5f0c")), ("17", Position(17, "")), ("0:", NOWHERE), ("1:a:b", Position(1, "a:b"))],
)
def test_a_text_is_parsed(text: str, position: Position) -> None:
    assert Position.parse(text) == position


@pytest.mark.parametrize("text", ["", ":5f0c", "x:5f0c", "1.5:5f0c"])
def test_a_text_without_an_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Position.parse(text)


@pytest.mark.parametrize("offset", [0, 1, MAX_OFFSET])
def test_offsets_of_clients_are_exact_in_every_language(offset: int) -> None:
    assert msgspec.convert({"offset": offset, "epoch": "a"}, Position) == Position(offset, "a")


@pytest.mark.parametrize(
    ("offset", "epoch"),
    [
        (-1, "a"),
        (MAX_OFFSET + 1, "a"),
        (1.5, "a"),
        ("1", "a"),
        (1, "a" * (MAX_EPOCH_LENGTH + 1)),
        (1, "a b"),
        (1, "a\n"),
    ],
)
def test_other_positions_of_clients_are_refused(offset: object, epoch: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"offset": offset, "epoch": epoch}, Position)
