"""The page of all commands, from the declarations that `wsd COMMAND --help` shows."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from docs.site.reference.markdown import block, code, page, prose, table
from wsd.supervisor.cli.app import app


def commands() -> str:
    """Return all commands in the order of `wsd --help`."""
    group: Any = typer.main.get_command(app)  # the types of click within typer are private
    parts = [table(["command", "what it does"], [_line(command) for command in group.commands.values()])]
    for command in group.commands.values():
        parts += _command(command)
    return page(parts)


def _line(command: Any) -> list[str]:
    first = command.help.partition("\n")[0]
    return [f"[`wsd {command.name}`](#{_anchor(command)})", prose(first)]


def _anchor(command: Any) -> str:
    return f"wsd-{command.name}"


def _command(command: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=f"wsd {command.name}")
    yield f"## wsd {command.name} {{ #{_anchor(command)} }}"
    text, _, examples = command.help.partition("\b")
    yield from (prose(" ".join(paragraph.split())) for paragraph in text.split("\n\n"))
    yield block(command.get_usage(context).removeprefix("Usage: "), "text")
    for kind in ("argument", "option"):
        found = [each for each in command.params if each.param_type_name == kind]  # not `--help`, which all have
        records = filter(None, (each.get_help_record(context) for each in found))
        rows = [[code(names.partition(" <")[0]), prose(in_words(meaning))] for names, meaning in records]
        yield table([kind, "meaning"], rows)
    lines = [line.removeprefix("Example: ") for line in examples.strip().splitlines()]
    if lines:
        yield "For example:"
        yield block("\n".join(lines), "sh")


def in_words(meaning: str) -> str:
    """Return the meaning of an option with its default and its limits in words: `[default: 10; x>=1]`."""
    text, _, extra = meaning.removesuffix("]").partition("  [")
    extra = re.sub(r"(\d+)<=x<=(\d+)", r"\1 to \2", extra)
    extra = re.sub(r"x>=(\d+)", r"at least \1", extra).replace("; required", "").replace("required", "")
    return f"{text} ({extra})" if extra else text
