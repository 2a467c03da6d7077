"""Decide who may connect and what a client may do: authentication, authorization, admission and rate limits.

Imports the contract and `wire` only. Knows nothing of connections or channels.
"""
