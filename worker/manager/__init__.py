"""Hold the manager, the object that applications and endpoints talk to.

`parts.py` says which part works with which. Imports `backend` and the rows below it.
"""
