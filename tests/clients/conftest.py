from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client_programs import Program, client_program


@pytest.fixture
def ann(kind: str, tmp_path: Path) -> Iterator[Program]:
    """A program that creates clients of a kind. Each test that uses it is parametrized with `kind`."""
    with client_program(kind, tmp_path) as program:
        yield program
