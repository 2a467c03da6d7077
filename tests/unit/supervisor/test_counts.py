import pytest

from wsd.supervisor.counts import count


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [(0, "worker", "0 workers"), (1, "worker", "1 worker"), (2, "worker", "2 workers"), (4, "process", "4 processes")],
)
def test_a_noun_has_the_form_that_its_number_asks_for(number: int, noun: str, expected: str) -> None:
    assert count(number, noun) == expected
