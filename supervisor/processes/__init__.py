"""Run processes: a state machine for each slot, the children themselves, and the judgement of their health.

Imports `logs` and the rows below it.
"""
