"""Serve the hub, which is the WebSocket endpoint with channels, and the HTTP API of a worker.

Imports `worker` and the rows below it.
"""
