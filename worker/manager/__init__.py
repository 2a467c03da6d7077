"""Hold the manager, the object that applications and endpoints talk to.

Imports `channels`, `sessions`, `security` and the rows below them.
"""
