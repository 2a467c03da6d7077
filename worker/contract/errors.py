"""Define the root of all errors that wsd raises on purpose."""


class WsdError(Exception):
    """The base of all errors of wsd: those of the supervisor, the worker, the clients and the publishers."""
