"""The meanings of the fields of records, for the descriptions: the text below a field in the source of its class."""

import ast
import inspect
import sys
from functools import cache
from types import ModuleType

SHARED = {
    "channel": "The name of a channel.",
    "code": "The code of a close frame.",
    "connected_at": "When the session began, in seconds since the epoch.",
    "connections": "The number of connections.",
    "data": "What is published: any JSON.",
    "epoch": "The run of offsets, which begins anew when the history is lost.",
    "id": "The id of the request, which its answer carries, too: any JSON of at most 256 bytes.",
    "idempotency_key": "Of messages with the same key in one channel, within two minutes, only the first counts.",
    "loop_lag": "The greatest lag of the event loop since the last heartbeat, in seconds.",
    "messages_in": "Messages from clients.",
    "messages_out": "Messages to clients.",
    "node_id": "The name of the node.",
    "offset": "The number of the message in its channel.",
    "position": "A place in the history of the channel.",
    "reason": "The text of a close frame.",
    "session_id": "The id of the session. It stays the same when the client comes back, and is no secret.",
    "user_id": "The id of the user.",
    "username": "The name of the user for people.",
    "worker_id": "The id of the worker.",
}
"""The meanings of fields that mean the same in all records, and need no text below them."""


def meanings(record: type) -> dict[str, str]:
    """Return the meaning of each field of a record, as far as it is known."""
    found: dict[str, str] = {}
    for kind in reversed(record.__mro__):
        if kind.__module__.startswith("wsd."):
            found = dict.fromkeys(vars(kind).get("__annotations__", ()), "") | found
            found |= _texts(sys.modules[kind.__module__]).get(kind.__qualname__, {})
    return {name: text or SHARED[name] for name, text in found.items() if text or name in SHARED}


@cache
def _texts(module: ModuleType) -> dict[str, dict[str, str]]:
    """Return the texts below the fields of each class of a module."""
    return {
        node.name: {
            field.target.id: inspect.cleandoc(text.value.value)
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
        }
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
    }
