"""Decide who may connect and what a client may do: authentication, authorization, admission and rate limits.

Imports `wire` and the rows below it. Knows nothing of connections or channels.
"""
