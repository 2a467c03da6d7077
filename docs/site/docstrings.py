"""An extension of griffe: show the docstrings of wsd as pages need them.

Docstrings of wsd are prose. These things in them are shown in another way:

* Sentences that begin with the names of parameters ("`limit`: how many at most.") become the items of a list.
* Names of wsd, such as `Cluster.publish` and the errors, become links.
* The attributes of a record, and the members of an enumeration, become a table in the description of their class.
* Indented lines are code in Python.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import griffe

from wsd.worker.endpoints.field_meanings import SHARED

PACKAGES = ("wsd", "wsd.publisher", "wsd.client", "wsd.testing")
"""The packages whose names have a description in the site. A name in several of them is that of the last one."""

RECORD_BASES = {"Struct", "msgspec.Struct", "TypedDict"}
ENUM_BASES = {"Enum", "IntEnum", "StrEnum"}

_NAMES = r"`\w+`(?:(?:, or |, and |, | and | or )`\w+`)*"
_BEGINNING = re.compile(rf"(?:^|(?<=[.;]) )(?={_NAMES}(?:: | in seconds))")
"""The place before the names of parameters that a sentence is about."""

_NAME = re.compile(r"`(?P<code>(?P<owner>[A-Z]\w+)(?:\.(?P<member>\w+))?)`|(?<![\w`.])(?P<error>[A-Z]\w+Error)\b")
"""A name in code, or the name of an error."""


class Docstrings(griffe.Extension):
    """Rewrites the docstrings of wsd once they are loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Rewrite the docstrings of a package."""
        if pkg.name != "wsd":
            return
        tables = {each.path: attributes(each) for each in _objects(pkg) if is_record(each)}
        tables |= {each.path: members(each) for each in _objects(pkg) if has_base(each, ENUM_BASES)}
        for each in _objects(pkg):
            if each.docstring is not None:
                each.docstring.value = rewritten(each.docstring.value, _linker(pkg, each))
                if table := tables.get(each.path):
                    each.docstring.value += f"\n\n{table}"
        for path in tables:
            record = pkg[path.removeprefix("wsd.")]
            for name in [name for name, member in record.members.items() if is_field(member)]:
                record.del_member(name)


def _objects(owner: griffe.Object) -> Iterator[griffe.Object]:
    """Yield everything that is defined in a package."""
    yield owner
    for member in owner.members.values():
        if not isinstance(member, griffe.Alias):
            yield from _objects(member)


def rewritten(docstring: str, linked: Callable[[re.Match[str]], str]) -> str:
    """Return a docstring with blocks of code, lists of parameters, and links in the place of names."""
    return "\n\n".join(
        f"```python\n{textwrap.dedent(text)}\n```" if text.startswith("    ") else _NAME.sub(linked, with_list(text))
        for text in docstring.split("\n\n")
    )


def with_list(paragraph: str) -> str:
    """Return a paragraph in which each sentence that begins with names of parameters is an item of a list."""
    before, *items = _BEGINNING.split(" ".join(paragraph.split("\n")))
    if not items:
        return paragraph
    return "\n\n".join(filter(None, [before, "\n".join(f"* {item.strip()}" for item in items)]))


def _linker(pkg: griffe.Module, place: griffe.Object) -> Callable[[re.Match[str]], str]:
    """Return what makes links of the names in the docstring of `place`."""
    known = _public_names(pkg, place)

    def linked(found: re.Match[str]) -> str:
        path = known.get(found["owner"] or found["error"])
        if path is None:
            return found[0]
        if found["member"]:
            path = f"{path}.{found['member']}"
            owner = pkg[path.removeprefix("wsd.").rpartition(".")[0]]
            if found["member"] not in owner.all_members or is_record(owner):
                return found[0]
        return f"[{found[0]}][{path}]"

    return linked


def _public_names(pkg: griffe.Module, place: griffe.Object) -> Mapping[str, str]:
    """Return the paths of the names that a docstring may mean: those of its own package, or else those of `wsd`."""
    names: dict[str, str] = {}
    for package in PACKAGES:
        if package in ("wsd", "wsd.publisher") or place.path.startswith(f"{package}."):
            module = pkg if package == "wsd" else pkg[package.removeprefix("wsd.")]
            names |= {str(name): f"{package}.{name}" for name in module.exports or ()}
    return names


def is_record(each: griffe.Object | griffe.Alias) -> bool:
    """Tell whether a name is a class that consists of attributes only."""
    return each.is_class and (has_base(each, RECORD_BASES) or any("dataclass" in kind.labels for kind in _kinds(each)))


def has_base(each: griffe.Object | griffe.Alias, bases: set[str]) -> bool:
    """Tell whether a name is a class with one of these bases, also by way of another class of wsd."""
    return each.is_class and any(bases & set(map(str, kind.bases)) for kind in _kinds(each))


def _kinds(each: Any) -> list[griffe.Class]:
    return [each, *each.mro()]


def is_field(member: griffe.Object | griffe.Alias) -> bool:
    """Tell whether a member of a record is one of its attributes, and no property."""
    return member.is_attribute and "property" not in member.labels and not member.name.startswith("_")


def attributes(record: griffe.Object) -> str:
    """Return a table of the attributes of a record."""
    rows = [
        f"| `{name}` | `{_type(member)}` | {_meaning(member)} |"
        for name, member in record.all_members.items()
        if is_field(member)
    ]
    return "\n".join(["| attribute | type | meaning |", "|---|---|---|", *rows]) if rows else ""


def members(enumeration: griffe.Object) -> str:
    """Return a table of the members of an enumeration."""
    rows = [f"| `{name}` | `{member.value}` |" for name, member in enumeration.members.items() if is_field(member)]  # type: ignore[union-attr]
    return "\n".join(["| name | value |", "|---|---|", *rows])


def _type(member: Any) -> str:
    """Return the type of an attribute, without limits and in words that a table can hold."""
    shown = str(member.annotation)
    for name, plain in {"Offset": "int", "Epoch": "str", "|": "or"}.items():
        shown = shown.replace(name, plain)
    return shown


def _meaning(member: Any) -> str:
    if member.docstring is None:
        return SHARED.get(member.name, "")
    return " ".join(member.docstring.value.split())
