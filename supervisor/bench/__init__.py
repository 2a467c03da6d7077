"""The load of `wsd bench`, and what it measures: deliveries, latency, errors and CPU time of a running cluster.

Imports `control` and the rows below it.
"""
