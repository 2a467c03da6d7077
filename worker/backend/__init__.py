"""Build what depends on whether a worker has a Redis: the broker and the stores.

Imports broker, channels and sessions, and everything below them.
"""
