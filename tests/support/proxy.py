"""A proxy between a worker and its Redis, which can make the worker deaf, or late."""

import asyncio

from tests.support.ports import unused_port


class Proxy:
    """A TCP proxy that passes everything on, except messages to subscribers of the channels in `deaf_to`.

    Such subscribers are deaf: they are connected and receive nothing, as when a network has forgotten a connection that
    both ends take for open.
    """

    def __init__(self, url: str) -> None:
        self.deaf_to: bytes | None = None
        self.delay = 0.0  # seconds that a new connection takes
        port = unused_port()
        self.url = f"redis://127.0.0.1:{port}"
        self._port = port
        self._target = int(url.rpartition(":")[2])
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.sleep(self.delay)
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await self._pass_on(reader, writer, up_reader, up_writer)
            finally:
                up_writer.close()
        except OSError:
            pass  # the server behind the proxy is down
        finally:
            writer.close()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        subscribed = bytearray()

        async def up() -> None:
            while data := await reader.read(65536):
                if b"SUBSCRIBE" in data:
                    subscribed.extend(data)
                up_writer.write(data)

        async def down() -> None:
            while data := await up_reader.read(65536):
                if not (self.deaf_to and self.deaf_to in subscribed and b"message" in data):
                    writer.write(data)

        ways = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
