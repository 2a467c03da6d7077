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
        self.calls: dict[object, asyncio.Task[None]] = {}  # those that may be cancelled
        self.came_back = asyncio.Event()

    def spawn(self, command: Command) -> None:
        task = asyncio.create_task(self.settle(command))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        if command.get("cancellable"):
            self.calls[command["call"]] = task

    async def settle(self, command: Command) -> None:
        try:
            answer = await self.call(command)
        except asyncio.CancelledError:
            say.report("settled", call=command["call"], code="cancelled", text="")
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
                return await self.client.subscribe(channel, **say.subscribe_options(command))
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
            case "publish_changed":
                await self.publish_changed(channel)
            case "publish_unencodable":
                return {"codes": [await self.code_of(channel, data) for data in say.unencodable()]}
            case _:
                return self.do_at_once(command)
        return {}

    async def publish_changed(self, channel: str) -> None:
        """Publish data, and change them while the call waits."""
        data = {"n": 1, "list": [1]}
        call = asyncio.create_task(self.client.publish(channel, data))
        await asyncio.sleep(0)
        data.update(n=2, list=[1, 2])
        await call

    async def code_of(self, channel: str, data: object) -> str:
        try:
            await self.client.publish(channel, data)
        except RequestError as exc:
            return exc.code
        return "none"

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
            case "heard":
                return {"count": say.Careless.heard}
            case "cancel":
                self.calls.pop(command["target"]).cancel()
            case other:
                raise ValueError(f"no such command: {other}")
        return {}

    def connect(self, command: Command) -> None:
        options = say.client_options(command, asyncio.Event().wait)

        def on_state(state: State) -> object:
            if state.name != "closed":
                self.came_back.set()
            return say.report_state(state)

        self.client = WsdClient(command["url"], **{**options, "on_state": on_state})
        self.client.start()
        task = asyncio.create_task(self.read(self.client, command))
        self.tasks.add(task)

    async def read(self, client: WsdClient, connect: Command) -> None:
        """Report all messages, also after the server has ended the client and the test has connected it again."""
        while True:
            self.came_back.clear()
            try:
                async for event in client:
                    say.report_event(event)
                    if (echo := say.echo_of(connect, event)) is not None:
                        await self.settle(echo)
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
