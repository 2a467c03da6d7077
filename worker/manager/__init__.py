"""Hold the manager, the object that applications and endpoints talk to.

Imports `backend`, `channels`, `sessions`, `security` and the rows below them.
"""
