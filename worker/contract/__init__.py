"""The language between the supervisor and its workers: environment, heartbeat, events, HTTP paths and Redis keys.

It needs the standard library only, and it is all that the supervisor imports of the worker.
"""
