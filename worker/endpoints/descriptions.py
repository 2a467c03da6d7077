"""JSON Schemas of the records in use, for the descriptions of the HTTP API and of the hub's protocol."""

import inspect
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

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


def schemas(kinds: Iterable[Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schema of each type, which may refer to the components, and the components by name."""
    found, components = msgspec.json.schema_components([*kinds, Message], ref_template=REFERENCE)
    *schemas_of_kinds, message = found
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
