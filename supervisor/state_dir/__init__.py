"""The state directory of a cluster: its files and sockets, the lock on it, and the record of its processes.

Imports `machine`, `quoting` and the errors.
"""
