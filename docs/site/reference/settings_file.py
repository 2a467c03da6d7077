"""Read wsd.toml for its explanations: the text above each section, and above each setting or group of settings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Group:
    """Settings that one text explains."""

    text: str
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A section of wsd.toml."""

    name: str
    text: str
    groups: list[Group] = field(default_factory=list)


def parts(toml: str) -> Iterator[Part]:
    """Yield the sections of a wsd.toml in their order.

    A text above a section explains the section, and a text within it explains the settings that follow directly.
    A section that is commented out, as an example, has its settings in comments, too.
    """
    found: Part | None = None
    sign = ""  # what stands before the settings of the section
    comment: list[str] = []
    for line in toml.splitlines():
        if section := re.fullmatch(r"(# )?\[(.+)\]", line):
            if found is not None:
                yield found
            sign = section[1] or ""
            found = Part(section[2], _joined(comment))
            comment = []
        elif found is not None and (setting := re.match(rf"{sign}(\w+) = [^#]*(?:# (.*))?", line)):
            text = _joined([*comment, setting[2] or ""])
            if text or not found.groups:
                found.groups.append(Group(text))
            found.groups[-1].keys.append(setting[1])
            comment = []
        elif line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif found is None:
            comment = []  # the head of the file is about no section
    if found is not None:
        yield found


def _joined(lines: list[str]) -> str:
    return " ".join(line for line in lines if line)
