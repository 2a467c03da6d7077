"""What a worker works on: Redis, or the memory of its own process.

Imports broker, channels and sessions, and everything below them.
"""
