"""Carry messages between workers and keep the history of each channel, in memory or in Redis.

Imports `wire` and the rows below it.
"""
