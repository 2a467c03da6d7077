"""Define the root of all errors that wsd raises on purpose."""


class WsdError(Exception):
    """The base of the supervisor's errors and of the worker's errors."""
