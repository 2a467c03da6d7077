"""Watch a running node: the health of its processes, Redis, the TLS certificate and its capacity.

Imports `services` and the rows below it.
"""
