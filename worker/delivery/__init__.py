"""Bring messages to the sockets of clients. Each message is encoded once, joined with others, and written once.

This is the hot path. Imports `wire` and the rows below it.
"""
