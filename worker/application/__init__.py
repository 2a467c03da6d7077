"""The cluster inside a user's own application: `Cluster`, the clients that it serves, and the records that it returns.

Everything here is public through `wsd`. Imports all rows below it.
"""
