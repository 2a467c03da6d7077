"""JSON Schemas of the records in use, for the descriptions of the HTTP API and of the hub's protocol."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.inspect import DataclassType, StructType, Type, multi_type_info

from wsd.worker.endpoints.field_meanings import meanings
from wsd.worker.wire import messages as wire

REFERENCE = "#/components/schemas/{name}"

ERROR_CODES = sorted(wire.ErrorCode.__args__)  # type: ignore[attr-defined]


class Message(wire.Message, frozen=True, kw_only=True, tag="message", rename={"sender": "from"}):
    """A message that was published.

    `from` is absent if the server sent it, `channel` and `uid` are absent if it was sent to one connection.
    `offset` and `epoch` are absent in a channel without history, and while Redis is away.
    """

    offset: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET


def information(title: str, description: str) -> dict[str, Any]:
    """Return the part `info` of a document."""
    return {"title": title, "version": version("wsd-cluster"), "description": description}


def schemas(kinds: Sequence[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schema of each type, which may refer to the components, and the components by name."""
    found, components = msgspec.json.schema_components([*kinds, Message], ref_template=REFERENCE)
    *schemas_of_kinds, message = found
    for record in _records(multi_type_info([*kinds, Message])):
        known, fields = meanings(record.cls), components[record.cls.__name__]["properties"]
        for field in record.fields:
            if field.name in known:
                fields[field.encode_name].setdefault("description", known[field.name])
    for component in components.values():
        if "description" in component:
            component["description"] = inspect.cleandoc(component["description"])
    if "HistoryPage" in components:
        components["HistoryPage"]["properties"]["messages"]["items"] = message  # encoded already, so msgspec cannot say
    if "Error" in components:
        code = {
            "type": "string",
            "description": "One of the examples, or a code of the application.",
            "examples": ERROR_CODES,
        }
        components["Error"]["properties"]["code"] = code
    return [_portable(schema) for schema in schemas_of_kinds], _portable(components)


def _records(kinds: Iterable[Type]) -> Iterator[StructType | DataclassType]:
    """Yield the types of these kinds that have fields, and those of their fields, each once."""
    waiting, seen = list(kinds), set[type]()
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, StructType | DataclassType):
            if kind.cls in seen:
                continue
            seen.add(kind.cls)
            yield kind
            waiting += [field.type for field in kind.fields]
        else:
            for name in ("types", "item_type", "value_type", "type"):  # of unions, lists, dicts and limited types
                inner = getattr(kind, name, ())
                waiting += inner if isinstance(inner, tuple) else [inner]


def _portable(node: Any) -> Any:
    r"""Return a schema with its patterns as JSON Schema takes them: `^` and `$` for the `\A` and `\Z` of Python."""
    if isinstance(node, dict):
        return {
            key: value.replace(r"\A", "^").replace(r"\Z", "$")
            if key == "pattern" and isinstance(value, str)
            else _portable(value)
            for key, value in node.items()
        }
    return [_portable(value) for value in node] if isinstance(node, list) else node
