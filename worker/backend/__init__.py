"""Build what depends on whether a worker has a Redis: the broker, the stores, and the roster of live workers.

Imports `broker`, `channels`, `sessions` and the rows below them.
"""
