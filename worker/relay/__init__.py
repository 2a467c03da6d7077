"""The relay: a process that publishes the rows of an outbox table in PostgreSQL, and removes them.

`relay.py` runs its jobs side by side. Imports `channels` and the rows below it.
"""
