"""Change a running cluster: restart, scale, rebalance, reload and upgrade.

Imports `monitoring` and the rows below it.
"""
