"""Define how a worker process ends: its exit codes, and how long it accepts after its socket has moved."""

# Exit codes of `python -m wsd.worker`. The last line the worker printed says what happened.
EXIT_STARTUP_FAILED = 3  # as uvicorn's own STARTUP_FAILURE
EXIT_BAD_APP = 4


ACCEPT_GRACE_SECONDS = 0.2
"""How long a stopping worker goes on accepting after its socket has left the path nginx knows."""
