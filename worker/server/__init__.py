"""Connect uvicorn to the cluster: WebSocket and HTTP protocols, the ASGI interface, lifespan, draining.

Imports `delivery`, `security` and the rows below them.
"""
