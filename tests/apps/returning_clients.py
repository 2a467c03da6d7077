"""Many clients that come back whenever they can; prints each of their states: URL COUNT TOKEN."""

import asyncio
import json
import sys
import time

from wsd.client import State, WsdClient


async def main(url: str, count: int, token: str) -> None:
    clients = []
    for number in range(count):

        def report(state: State, number: int = number) -> None:
            print(json.dumps({"number": number, "state": state.name, "at": time.time()}), flush=True)

        client = WsdClient(url, token=token, on_state=report)
        client.start()
        clients.append(client)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
