"""Read, follow, show and rotate the log files of a node.

Imports the state directory and the rows below it.
"""
