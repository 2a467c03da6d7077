"""Keep sessions, so that a client can come back to any worker, and record why connections ended.

Imports `broker`, `delivery`, `security` and the rows below them.
"""
