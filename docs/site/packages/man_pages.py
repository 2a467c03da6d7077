"""Write the man pages of wsd and of each command, from the declarations that `wsd COMMAND --help` shows.

    python -m docs.site.packages.man_pages FOLDER VERSION DATE

The pages are in the format of man(7): wsd.1, and wsd-start.1 for `wsd start`. `man wsd start` finds the latter, too.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from docs.site.reference.commands import in_words
from wsd.supervisor.cli.app import app


def man_pages(version: str, date: str) -> dict[str, str]:
    """Return the text of each man page by its file name."""
    group: Any = typer.main.get_command(app)  # the types of click within typer are private
    pages = {"wsd.1": [*_head("wsd", group, version, date), *_commands(group), *_options(group, "wsd")]}
    for name, command in group.commands.items():
        pages[f"wsd-{name}.1"] = [
            *_head(f"wsd-{name}", command, version, date),
            *_options(command, f"wsd {name}"),
            *_examples(command),
            ".SH SEE ALSO",
            r"\fBwsd\fR(1)",
        ]
    return {name: "\n".join(lines) + "\n" for name, lines in pages.items()}


def _head(title: str, command: Any, version: str, date: str) -> Iterator[str]:
    text, _, _ = command.help.partition("\b")
    summary, *paragraphs = (" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
    info_name = title.replace("-", " ", 1)
    usage = command.get_usage(_context(command, info_name)).removeprefix("Usage: ")
    yield f'.TH {escaped(title.upper())} 1 "{date}" "wsd {version}" "wsd"'
    yield ".SH NAME"
    yield rf"{escaped(title)} \- {escaped(summary.rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield prose(" ".join(usage.split()).replace(info_name, f"`{info_name}`", 1))
    if paragraphs:
        yield ".SH DESCRIPTION"
        yield "\n.PP\n".join(prose(paragraph) for paragraph in paragraphs)


def _commands(group: Any) -> Iterator[str]:
    yield ".SH COMMANDS"
    for name, command in group.commands.items():
        yield from (".TP", rf"\fBwsd\-{escaped(name)}\fR(1)", prose(command.help.partition("\n")[0]))


def _options(command: Any, info_name: str) -> Iterator[str]:
    """Describe the arguments and the options of a command."""
    context = _context(command, info_name)
    for kind, head in (("argument", "ARGUMENTS"), ("option", "OPTIONS")):
        parameters = [parameter for parameter in command.get_params(context) if parameter.param_type_name == kind]
        records = [record for parameter in parameters if (record := parameter.get_help_record(context))]
        if records:
            yield f".SH {head}"
        for names, meaning in records:
            yield from (".TP", rf"\fB{escaped(names.partition(' <')[0])}\fR", prose(in_words(meaning)))


def _examples(command: Any) -> Iterator[str]:
    _, _, examples = command.help.partition("\b")
    lines = [line.removeprefix("Example: ") for line in examples.strip().splitlines()]
    if lines:
        yield from (".SH EXAMPLES", ".EX", *(escaped(line) for line in lines), ".EE")


def _context(command: Any, info_name: str) -> Any:
    return command.context_class(command, info_name=info_name)


def prose(text: str) -> str:
    """Return a text of a help page as man(7) has it, with what stands in backticks in bold."""
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped(text))


def escaped(text: str) -> str:
    """Return a line in which no character has a meaning for man(7), see groff_char(7)."""
    for character, name in (("\\", r"\e"), ("-", r"\-"), ("~", r"\(ti"), ("^", r"\(ha"), ("'", r"\(aq")):
        text = text.replace(character, name)
    return rf"\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    folder, *version_and_date = sys.argv[1:]
    for file_name, text in man_pages(*version_and_date).items():
        (Path(folder) / file_name).write_text(text, "utf-8")
