"""A function that answers the calls of clients of the Centrifuge protocol."""

from typing import Any

from wsd import ClientCall, MessageRefusedError


def answer(call: ClientCall) -> Any:
    if call.method == "whoami":
        return {"user": call.identity.user_id, "sent": call.data}
    if call.method == "fail":
        raise RuntimeError("a fault of the application")
    raise MessageRefusedError(f"there is no method {call.method}", "no_method")
