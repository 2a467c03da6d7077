"""Memory of the clients: connections and messages that are over leave nothing behind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client_kinds import Story, run_at_once, usual_kinds
from tests.support.client_programs import KINDS, PageProgram, Program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.waiting import all_clients, until

FIRST_ROUNDS = 20
"""Connections after which everything is full that a client keeps on purpose, such as the latest 5000 uids."""

MESSAGES_A_ROUND = 500

ALLOWED_BYTES = {"node20": 2**20, "node22": 2**20, "node24": 2**20, "chromium": 2**20}
"""How much the heap may grow. One message that stays would be 200 bytes of each 500 messages, 36 MB in a long run."""

ALLOWED_RESIDENT_BYTES = 4 * 2**20
"""The same for the memory that a process in Python has of the kernel, which is not as exact."""


def publish_many(hub: MisbehavingHub, first: int) -> None:
    def publish() -> None:
        for number in range(first, first + MESSAGES_A_ROUND):
            hub.publish("room", number)

    hub.loop.call_soon_threadsafe(publish)


def used_bytes(ann: Program) -> int:
    if not isinstance(ann, PageProgram):
        return int(ann.ask("memory")["bytes"])
    ann.devtools("HeapProfiler.collectGarbage")
    metrics = ann.devtools("Performance.getMetrics")["metrics"]
    return int(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))


def rounds(total: int) -> Callable[[Program], None]:
    """Return the story of a client with so many connections and messages."""

    def tell(ann: Program) -> None:
        with MisbehavingHub(history_size=MESSAGES_A_ROUND) as hub:
            ann.connect(hub.url, user_id="ann", quiet=True)
            ann.ask("subscribe", channel="room")
            if isinstance(ann, PageProgram):
                ann.devtools("Performance.enable")
            after_the_first = 0
            for number in range(1, total + 1):
                publish_many(hub, number * MESSAGES_A_ROUND)
                hub.loop.call_soon_threadsafe(hub.close, 1006)
                call = ann.do("publish", channel="elsewhere", data=number)
                until(lambda: hub.records.ended, "the end of the connection")
                ann.ask("reconnect")
                assert "ok" in ann.answer(call)
                until(lambda: ann.ask("heard")["count"] == number * MESSAGES_A_ROUND, "all messages")  # noqa: B023
                hub.records.ended.clear()
                ann.events.clear()
                if number == FIRST_ROUNDS:
                    after_the_first = used_bytes(ann)
            grown = used_bytes(ann) - after_the_first
            print(f"{ann.kind}: {after_the_first} bytes after {FIRST_ROUNDS} rounds, {grown:+} bytes after {total}")
            assert grown <= ALLOWED_BYTES.get(ann.kind, ALLOWED_RESIDENT_BYTES)

    return tell


def test_the_memory_of_the_usual_clients_does_not_grow(tmp_path: Path) -> None:
    run_at_once([Story(kind, "40 connections", rounds(40)) for kind in usual_kinds()], tmp_path)


@all_clients
@pytest.mark.parametrize("group", [KINDS[:3], KINDS[3:]], ids=["node", "others"])
def test_the_memory_of_no_client_grows(group: tuple[str, ...], tmp_path: Path) -> None:
    run_at_once([Story(kind, "200 connections", rounds(200)) for kind in group], tmp_path)
