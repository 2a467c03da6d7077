"""`wsd --help` and that of each command."""

import pytest
import typer.main

from wsd.supervisor.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

FITS = 56
"""Characters of a summary that `wsd --help` shows on a terminal of 80 columns."""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_summary_that_fits_an_example_and_options_that_say_what_they_are(name: str) -> None:
    command = COMMANDS[name]
    summary, _, rest = command.help.partition("\n")
    assert len(summary) <= FITS, summary
    assert f"wsd {name}" in rest.partition("Example:")[2]
    for parameter in command.params:
        assert parameter.name == "help" or getattr(parameter, "help", ""), parameter.name
