"""A WsdClient that does what a test commands: tests/support/client_programs.py has the commands."""

import asyncio
import json
import sys

from tests.apps import conformance_report as say
from tests.apps.conformance_report import Command
from wsd.client import Position, RequestError, State, WsdClient


class Program:
    """One client, and the tasks of its calls."""

    def __init__(self) -> None:
        self.client: WsdClient
        self.tasks: set[asyncio.Task[None]] = set()
        self.came_back = asyncio.Event()

    def spawn(self, command: Command) -> None:
        task = asyncio.create_task(self.settle(command))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def settle(self, command: Command) -> None:
        try:
            answer = await self.call(command)
        except Exception as exc:  # noqa: BLE001 - the test judges it
            say.failed(command, exc)
        else:
            say.settled(command, answer)

    async def call(self, command: Command) -> object:
        channel, given = command.get("channel", ""), say.given
        match command["do"]:
            case "connect":
                self.connect(command)
            case "subscribe":
                return await self.client.subscribe(channel, **given(command, "last"))
            case "unsubscribe":
                await self.client.unsubscribe(channel, **given(command))
            case "publish":
                return await self.client.publish(channel, command["data"], **given(command))
            case "broadcast":
                return await self.client.broadcast(command["data"], **given(command))
            case "direct":
                return await self.client.direct(command["user_id"], command["data"], **given(command))
            case "presence":
                return await self.client.presence(channel, **given(command))
            case "history":
                return await self.client.history(channel, **given(command, "since", "limit", "reverse"))
            case "delivered":
                position = Position(**command["position"])
                return await self.client.delivered(channel, command["user_id"], position, **given(command))
            case "close":
                await self.client.close()
            case _:
                return self.do_at_once(command)
        return {}

    def do_at_once(self, command: Command) -> object:
        match command["do"]:
            case "mark_read":
                at = command.get("position")
                self.client.mark_read(command["channel"], Position(**at) if at else None)
            case "reconnect":
                self.client.reconnect()
            case "waiting":
                return self.client.waiting
            case "discard_waiting":
                return {"count": self.client.discard_waiting()}
            case "memory":
                return say.memory()
            case other:
                raise ValueError(f"no such command: {other}")
        return {}

    def connect(self, command: Command) -> None:
        options = say.client_options(command, asyncio.Event().wait)

        def on_state(state: State) -> None:
            say.report_state(state)
            if state.name != "closed":
                self.came_back.set()

        self.client = WsdClient(command["url"], **{**options, "on_state": on_state})
        self.client.start()
        task = asyncio.create_task(self.read(self.client))
        self.tasks.add(task)

    async def read(self, client: WsdClient) -> None:
        """Report all messages, also after the server has ended the client and the test has connected it again."""
        while True:
            self.came_back.clear()
            try:
                async for event in client:
                    say.report_event(event)
            except RequestError as exc:
                say.report("reading_ended", code=exc.code)
                await self.came_back.wait()
            else:
                return


async def main() -> None:
    program = Program()
    reader = asyncio.StreamReader(limit=2**27)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: say.report("uncaught", text=repr(context)))
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say.report("ready")
    async for line in reader:
        for command in say.single_commands(json.loads(line)):
            program.spawn(command)


if __name__ == "__main__":
    asyncio.run(main())
