"""Tell operators when a problem of the node begins and when it ends, by a command or a URL.

Imports `control` and the rows below it.
"""
