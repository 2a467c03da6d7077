"""Check the machine, the settings and a running cluster, for `wsd doctor`.

Imports `control` and the rows below it.
"""
