"""The log files and the events of a node: how they are read, followed, shown and rotated.

Imports `config`, `machine`, the errors and the contract.
"""
