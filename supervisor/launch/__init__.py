"""Start a supervisor: in the foreground with its terminal, or detached from it.

This folder is the only place that knows both the supervisor and the control server.
Imports `control`, `supervisor` and the rows below them.
"""
