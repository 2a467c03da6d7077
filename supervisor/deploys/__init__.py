"""Change a running cluster: restart, scale, rebalance, reload, upgrade, and the takeover by the next supervisor.

Imports `cluster` and the rows below it.
"""
