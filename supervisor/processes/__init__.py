"""Run the processes of a node: a state machine for each slot, the processes in it, and their signs of life.

Imports `logs` and the rows below it.
"""
