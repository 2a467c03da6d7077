"""Run work in the background of a worker: faults are contained, waits have limits, failed writes are kept.

Imports the errors and the loggers.
"""
