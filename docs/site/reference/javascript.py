"""The page of the client in JavaScript, from its declarations in TypeScript."""

import re
from collections.abc import Iterator
from pathlib import Path

from docs.site.reference.markdown import block, page, prose

DECLARATIONS = Path(__file__).parents[3] / "clients" / "js" / "wsd-client.d.ts"

_DECLARATION = re.compile(
    r"^(?:/\*\*(?P<comment>(?:(?!\*/).)*)\*/\n)?"
    r"(?P<code>export (?P<kind>\w+) (?P<name>\w+).*?)(?=\n\n(?:/\*\*|export )|\s*\Z)",
    re.DOTALL | re.MULTILINE,
)
_FIRST = ("WsdClient", "Options", "WsdError")
"""What a reader looks for. The other names are in the order of the file."""


def javascript() -> str:
    """Return the exported names: the client, its options and its error first, and then the records."""
    found = {each["name"]: each for each in _DECLARATION.finditer(DECLARATIONS.read_text("utf-8"))}
    ordered = [*_FIRST, *(name for name in found if name not in _FIRST)]
    return page(part for name in ordered for part in _described(found[name]))


def _described(found: re.Match[str]) -> Iterator[str]:
    yield f"## {found['name']}"
    lines = [re.sub(r"^\s*\* ?", "", line) for line in (found["comment"] or "").strip().splitlines()]
    for paragraph in "\n".join(lines).split("\n\n"):
        yield prose(paragraph)
    yield block(found["code"].removeprefix("export "), "ts")
