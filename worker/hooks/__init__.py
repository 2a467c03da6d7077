"""Tell the application what happens to its clients: functions of its own, and webhooks.

`functions.py` has the functions, and `records.py` what they get. An event log (`memory_events.py`, `redis_events.py`)
has the events that were not handled yet. `delivery.py` hands them out on one worker at a time, and `webhooks.py` posts
them.
Imports the settings, the connection to Redis, and how functions of the application are loaded.
"""
