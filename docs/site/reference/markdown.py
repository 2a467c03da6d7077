"""Write Markdown: tables, code, and plain text that must not be read as Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Columns in which every row is empty are left out, and so is a table without rows."""
    lines = [list(row) for row in rows]
    kept = [number for number in range(len(heads)) if any(line[number] for line in lines)]
    if not kept:
        return ""
    shown = [heads, ["---"] * len(heads), *([_cell(text) for text in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line[number] for number in kept)} |" for line in shown)


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text).replace("|", r"\|")


def code(text: str) -> str:
    """Return a text as code within a line."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}" if text else ""


def block(text: str, language: str) -> str:
    """Return a text as a block of code."""
    return f"```{language}\n{text}\n```"


def prose(text: str) -> str:
    """Return plain text, in which only `code` in backticks has a meaning, as Markdown that shows it as it is."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*<>\[\]])", r"\\\1", part) for part in parts)


def page(parts: Iterable[str]) -> str:
    """Join the parts of a page, without the empty ones."""
    return "\n\n".join(part for part in parts if part) + "\n"
