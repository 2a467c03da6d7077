"""Measure how many connections and messages a running cluster can serve, for `wsd bench`.

Imports `control` and the rows below it.
"""
