"""The faults and the load of `wsd chaos`, and the verdict on whether the cluster lost anything.

Imports `control` and the rows below it.
"""
