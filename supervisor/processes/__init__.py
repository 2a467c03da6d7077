"""Run the processes of a node: a state machine for each slot, the processes themselves, and verdicts on their health.

Imports `logs` and the rows below it.
"""
