"""Both ends of the control socket: the server with its commands, status, metrics and dashboard, and the client.

Imports `deploys` and the rows below it.
"""
