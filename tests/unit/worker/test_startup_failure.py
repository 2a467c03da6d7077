"""The one line that tells why an application could not start."""

import traceback

import pytest

from wsd.worker.server.lifespan import startup_failure_line


def traceback_of(exc: Exception) -> str:
    try:
        try:
            raise KeyError("the first cause")
        except KeyError as cause:
            raise exc from cause
    except type(exc):
        return traceback.format_exc()


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (traceback_of(RuntimeError("no database")), "RuntimeError: no database"),
        (traceback_of(RuntimeError("no table\n[SQL: SELECT\n\t1]\n(see example.com)")), "RuntimeError: no table"),
        ("no database\nsee the manual", "see the manual"),
        ("RuntimeError()", "RuntimeError()"),
        ("", "no reason given"),
    ],
)
def test_the_line_names_the_exception(message: str, line: str) -> None:
    assert startup_failure_line(message) == line
