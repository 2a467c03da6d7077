"""Clients of the hub in Python: WsdClient for asyncio, SyncWsdClient for everything else.

They keep a client's half of the promise that nothing is lost: they reconnect, resume their session, ask for what they
missed, and send again what was not acknowledged. docs/clients.md is their specification. Of wsd they import only the
root of its errors, and beyond it only `websockets`.
"""
