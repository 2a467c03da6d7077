"""Connect uvicorn to the cluster: WebSocket and HTTP protocols, the ASGI interface, lifespan, draining.

Imports `delivery`, `wire` and the contract.
"""
