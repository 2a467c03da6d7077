"""Break a running cluster on purpose and check that nothing was lost, for `wsd chaos`.

Imports `control` and the rows below it.
"""
