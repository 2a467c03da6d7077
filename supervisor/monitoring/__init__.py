"""Watch a running node: verdicts on its processes, Redis, the TLS certificate, its capacity, and files that must stay.

Imports `services` and the rows below it.
"""
