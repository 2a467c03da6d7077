"""Describe the three kinds of process that a node runs: workers, nginx and Valkey.

Imports `processes` and the rows below it.
"""
