"""`wsd --help` and that of each command."""

import pytest
import typer.main

from wsd.supervisor.cli.app import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

FITS = 56
"""Characters of a summary that `wsd --help` shows on a terminal of 80 columns."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_short_summary_an_example_and_described_options(name: str) -> None:
    command = COMMANDS[name]
    summary, _, rest = command.help.partition("\n")
    assert len(summary) <= FITS, summary
    assert f"wsd {name}" in rest.partition("Example:")[2]
    for parameter in command.params:
        assert parameter.name == "help" or getattr(parameter, "help", ""), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_each_example_stands_on_a_line_of_its_own(name: str) -> None:
    command = COMMANDS[name]
    lines = [
        line.strip() for line in command.get_help(command.make_context(name, [], resilient_parsing=True)).split("\n")
    ]
    wanted = [line.strip() for line in command.callback.__doc__.split("\n") if "Example:" in line]
    assert wanted
    assert [line for line in lines if "Example:" in line] == wanted
