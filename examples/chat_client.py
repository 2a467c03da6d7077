"""A chat in the terminal: `python chat_client.py ws://127.0.0.1:8000/ws ann room:1`. What you type is published."""

import sys
import threading

from wsd.client import SyncWsdClient


def show(client: SyncWsdClient) -> None:
    for message in client:
        sender = message.get("from", {"username": "the server"})
        print(f"{sender['username']}: {message.get('data', message)}", flush=True)


url, user_id, room = sys.argv[1:]
with SyncWsdClient(url, user_id) as client:
    client.subscribe(room, last=10)
    threading.Thread(target=show, args=[client], daemon=True).start()
    for line in sys.stdin:
        client.publish(room, line.strip())
