"""The page of all settings: explained by wsd.toml, described by their types."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec
from msgspec.inspect import FloatType, IntType, type_info

from docs.site.reference.markdown import code, page, prose, table
from docs.site.reference.settings_file import Group, Part, parts
from wsd.supervisor.config.environment import FIXED_ENV_NAMES, env_name
from wsd.supervisor.config.keys import (
    BYTE_KEYS,
    SECTIONS,
    Key,
    is_secret,
    kind_of,
    pattern_of,
)
from wsd.supervisor.config.settings import MAX_SECONDS
from wsd.supervisor.config.wording import describe_type, show
from wsd.supervisor.deploys.reload import FIXED, FIXED_WITHOUT_NGINX
from wsd.templates import template_text


def settings() -> str:
    """Return the sections with their settings."""
    return page(text for part in parts(template_text("wsd.toml")) for text in _section(part))


def _section(part: Part) -> Iterator[str]:
    yield f"## `[{part.name}]` {{ #{anchor(part.name)} }}"
    yield _explained(part.text, part.name)
    for group in part.groups:
        yield from _group(part, group)


def _group(part: Part, group: Group) -> Iterator[str]:
    first, *others = group.keys
    yield f"### {', '.join(map(code, group.keys))} {{ #{anchor(part.name, first)} }}"
    if others:  # each setting can be linked to
        yield " ".join(f'<a id="{anchor(part.name, key)}"></a>' for key in others)
    yield _explained(group.text, part.name)
    yield table(
        ["setting", "values", "default", "environment", "after a change"],
        [
            [code(key), _values(part.name, key), _default(part.name, key), _variables(part.name, key), change]
            for key in group.keys
            for change in [_after_change((part.name, key))]
        ],
    )
    yield from _notes(part.name, group.keys)


def anchor(section: str, key: str = "") -> str:
    """Return the anchor of a section, or of a setting: `nginx.workers`."""
    name = section.partition(".")[0]  # there is one example of a section for channels, and one for API keys
    return f"{name}.{key}" if key else name


def _values(section: str, key: str) -> str:
    text = describe_type(_field(section, key).type, None).removeprefix("one of ")
    unit = _unit(section, key)
    if not unit:
        return re.sub(r'"[^"]*"', lambda value: code(value[0]), text)
    return re.sub(r"^an? (?:number|integer) (?:of )?", f"{unit}, ", text)


def _unit(section: str, key: str) -> str:
    """Return the unit of a setting, or "" for one that is not a time and not a size."""
    info = type_info(_field(section, key).type)
    if key == "messages_per_second":
        return ""
    if isinstance(info, FloatType | IntType) and info.le == MAX_SECONDS:
        return "seconds" if isinstance(info, FloatType) else "whole seconds"
    return "bytes" if re.search(r"bytes|^max_memory$|^max_rss$|^byte_burst$", key) else ""


def _default(section: str, key: str) -> str:
    default = _field(section, key).default
    if isinstance(default, tuple):
        return code(f"[{', '.join(show(item) for item in default)}]")
    return code(show(default))


def _field(section: str, key: str) -> Any:
    return next(field for field in msgspec.structs.fields(kind_of(section)) if field.name == key)


def _variables(section: str, key: str) -> str:
    if section not in SECTIONS:
        return ""
    names = [name for name, of in FIXED_ENV_NAMES.items() if of == (section, key)]
    return ", ".join(code(name) for name in [env_name(section, key), *names])


def _after_change(key: Key) -> str:
    if key in FIXED:
        return "stop and start"
    if key in FIXED_WITHOUT_NGINX:
        return "reload; without nginx stop and start"
    return "reload"


def _notes(section: str, keys: list[str]) -> Iterator[str]:
    """Yield what holds for some settings of a group."""
    named = [(section, key) for key in keys]
    for key in named:
        if key in FIXED:
            yield f"{code(key[1])} is not changed by `wsd reload`: {FIXED[key]}."
    if secret := [key for _, key in filter(is_secret, named)]:
        yield f"The value of {_listed(secret)} is never shown."
    if paths := [key for _, key in named if (section, key) in BYTE_KEYS]:
        yield f"A relative path in {_listed(paths)} starts from the directory of wsd.toml."


def _listed(keys: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(map(code, keys[:-1])), code(keys[-1])]))


TOKENS = re.compile(
    r"""
    (?P<code> `[^`]+` )
  | (?P<section> \[[a-z_]+(?:\.[^\]\s]+)?\] )
  | (?P<value> "[^"\s]*" | \[(?:"[^"\s]*")?\] )
  | docs/(?P<page>[\w/]+)\.md
  | (?<![\w/.]) (?P<name> [a-z]+\.[a-z][a-z0-9_]* | [a-z]+(?:_[a-z]+)+ ) (?![\w/.:(]*[\w/:(])
    """,
    re.VERBOSE,
)
"""What is more than plain text in an explanation of wsd.toml."""


def _explained(text: str, section: str) -> str:
    """Return an explanation of wsd.toml as Markdown, with links to the pages and settings that it names."""
    shown, end = "", 0
    for found in TOKENS.finditer(text):
        shown += prose(text[end : found.start()]) + _token(found, section)
        end = found.end()
    return shown + prose(text[end:])


def _token(found: re.Match[str], section: str) -> str:
    match found.lastgroup:
        case "code":
            return found[0]
        case "page":
            return f"[{PurePosixPath(found['page']).stem}](../{found['page']}.md)"
        case "name":
            return _setting(found[0], section)
    return code(found[0])


def _setting(name: str, section: str) -> str:
    """Return a name in an explanation: a link if it is that of a setting."""
    owner, _, key = name.rpartition(".")
    owner = owner or section
    if (owner in SECTIONS or pattern_of(owner) is not None) and key in kind_of(owner).__struct_fields__:
        return f"[`{name}`](#{anchor(owner, key)})"
    return prose(name)
