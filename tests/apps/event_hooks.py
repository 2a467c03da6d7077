"""Functions for the settings of `[hooks]`. Each event is a line in the file that EVENTS_FILE names."""

import asyncio
import json
import os
from pathlib import Path

import msgspec

from wsd import ClientMessage, Connected, Disconnected, MessageRefusedError, Subscribed, Unsubscribed


def note(event: msgspec.Struct) -> None:
    line = json.dumps({**msgspec.to_builtins(event), "worker": os.environ["WORKER_ID"]})
    with Path(os.environ["EVENTS_FILE"]).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


async def on_connect(event: Connected) -> None:
    await asyncio.sleep(0)
    note(event)
    if event.user_id == "broken":
        raise RuntimeError("the function fails")


def on_disconnect(event: Disconnected) -> None:
    note(event)


def on_subscribe(event: Subscribed) -> None:
    note(event)


def on_unsubscribe(event: Unsubscribed) -> None:
    note(event)


async def on_message(message: ClientMessage) -> ClientMessage | str | None:
    """Let most messages pass. What the text of a message says is done with it."""
    await asyncio.sleep(0)
    match message.data:
        case "shout":
            return message.with_data({"shouted": message.identity.user_id, "to": message.to_user_id or message.channel})
        case "rude":
            raise MessageRefusedError("no such words here", "too_rude")
        case "off-topic":
            raise MessageRefusedError("this is not the topic")
        case "broken":
            raise RuntimeError("the function fails")
        case "wrong":
            return "no message"
        case "unspeakable":
            return message.with_data(object())
        case "slow":
            await asyncio.sleep(60)
    return None
