"""Describe what goes over a client's socket: frames, the handshake, messages, names and close codes.

Does no I/O. Imports the errors only.
"""
