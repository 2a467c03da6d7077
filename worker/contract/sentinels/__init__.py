"""Find the primary that Sentinels name, and leave the old one at once when they name another.

Both houses use Redis through Sentinels, so both need this. It speaks to Sentinels by asyncio alone, and gives a
connection class of redis-py, which the houses hand in, the way to the primary. `words.py` decides which Sentinel is
right, and is pure; the other modules are thin I/O around it.
"""
