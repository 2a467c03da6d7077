"""Render what clients are told, each kind of clients in its own format.

Does no I/O. Imports `wire` and the rows below it.
"""
