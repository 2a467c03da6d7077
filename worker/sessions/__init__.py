"""Keep sessions, so that a client can come back to any worker, and record what happened to connections.

Imports `broker`, `delivery` and the rows below them.
"""
