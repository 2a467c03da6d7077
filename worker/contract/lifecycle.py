"""Define how a worker process ends: its exit codes, and how long it still accepts connections."""

# Exit codes of `python -m wsd.worker`. The last line that the worker printed says what happened.
EXIT_STARTUP_FAILED = 3  # the same as uvicorn's STARTUP_FAILURE
EXIT_BAD_APP = 4  # the application cannot be imported, or is no ASGI application

ACCEPT_GRACE_SECONDS = 0.2
"""How long a stopping worker goes on accepting connections.

Its socket has left the path that nginx knows by then, but nginx may just have begun to connect to it.
"""
