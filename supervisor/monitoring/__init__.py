"""Watch what runs: the health of processes, Redis, certificates and capacity.

Imports `services` and the rows below it.
"""
