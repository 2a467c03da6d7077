"""Carry messages between workers and keep the history of each channel, in memory or in Redis.

Imports the contract, the Redis client and `wire`.
"""
