"""The configuration: its sections and settings, how they are read and checked, and how they are shown.

Imports the errors, `machine` and the contract.
"""
