"""The checks of `wsd doctor`: the machine, the settings, nginx, Redis and a running cluster.

Each check yields findings that say what it found and what to do about it. Imports `control` and the rows below it.
"""
