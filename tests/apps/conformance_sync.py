"""A SyncWsdClient that does what a test commands: tests/support/client_programs.py has the commands.

Calls are made one after the other in one thread, as a plain program makes them. A call with `beside` gets a thread of
its own. What needs no answer of the hub is done at once.
"""

import json
import os
import queue
import sys
import threading
from types import TracebackType

from tests.apps import conformance_report as say
from tests.apps.conformance_report import Command
from wsd.client import Position, RequestError, State, SyncWsdClient


class Program:
    """One client, with a thread for calls and one that reads messages."""

    def __init__(self) -> None:
        self.client: SyncWsdClient
        self.calls: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self.came_back = threading.Event()
        threading.Thread(target=self.make_calls, daemon=True).start()

    def take(self, command: Command) -> None:
        if say.is_immediate(command):
            self.settle(command)
        elif command.get("beside"):
            threading.Thread(target=self.settle, args=(command,), daemon=True).start()
        else:
            self.calls.put(command)

    def make_calls(self) -> None:
        while True:
            self.settle(self.calls.get())

    def settle(self, command: Command) -> None:
        try:
            answer = self.call(command)
        except Exception as exc:  # noqa: BLE001 - the test judges it
            say.failed(command, exc)
        else:
            say.settled(command, answer)

    def call(self, command: Command) -> object:
        channel, given = command.get("channel", ""), say.given
        match command["do"]:
            case "subscribe":
                return self.client.subscribe(channel, **say.subscribe_options(command))
            case "unsubscribe":
                self.client.unsubscribe(channel, **given(command))
            case "publish":
                return self.client.publish(channel, command["data"], **given(command))
            case "broadcast":
                return self.client.broadcast(command["data"], **given(command))
            case "direct":
                return self.client.direct(command["user_id"], command["data"], **given(command))
            case "presence":
                return self.client.presence(channel, **given(command))
            case "history":
                return self.client.history(channel, **given(command, "since", "limit", "reverse"))
            case "publish_unencodable":
                return {"codes": [self.code_of(channel, data) for data in say.unencodable()]}
            case "delivered":
                position = Position(**command["position"])
                return self.client.delivered(channel, command["user_id"], position, **given(command))
            case _:
                return self.do_at_once(command)
        return {}

    def code_of(self, channel: str, data: object) -> str:
        try:
            self.client.publish(channel, data)
        except RequestError as exc:
            return exc.code
        return "none"

    def do_at_once(self, command: Command) -> object:
        match command["do"]:
            case "connect":
                self.connect(command)
            case "mark_read":
                at = command.get("position")
                self.client.mark_read(command["channel"], Position(**at) if at else None)
            case "reconnect":
                self.client.reconnect()
            case "close":
                self.client.close()
            case "waiting":
                return self.client.waiting
            case "discard_waiting":
                return {"count": self.client.discard_waiting()}
            case "memory":
                return say.memory()
            case "heard":
                return {"count": say.Careless.heard}
            case other:
                raise ValueError(f"no such command: {other}")
        return {}

    def connect(self, command: Command) -> None:
        options = say.client_options(command, threading.Event().wait)

        def on_state(state: State) -> object:
            if state.name != "closed":
                self.came_back.set()
            return say.report_state(state)

        self.client = SyncWsdClient(command["url"], **{**options, "on_state": on_state})
        self.client.start()
        threading.Thread(target=self.read, args=(self.client, command), daemon=True).start()

    def read(self, client: SyncWsdClient, connect: Command) -> None:
        """Report all messages, also after the server has ended the client and the test has connected it again."""
        while True:
            self.came_back.clear()
            try:
                for event in client:
                    say.report_event(event)
                    if (echo := say.echo_of(connect, event)) is not None:
                        self.settle(echo)
            except RequestError as exc:
                say.report("reading_ended", code=exc.code)
                self.came_back.wait()
            else:
                return


def report_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    say.report("uncaught", text=f"{kind.__name__}: {error}")


def main() -> None:
    threading.excepthook = lambda caught: report_uncaught(caught.exc_type, caught.exc_value, caught.exc_traceback)
    program = Program()
    say.report("ready")
    for line in sys.stdin:
        for command in say.single_commands(json.loads(line)):
            program.take(command)
    sys.stdout.flush()
    os._exit(0)  # whatever call a thread still waits in


if __name__ == "__main__":
    main()
