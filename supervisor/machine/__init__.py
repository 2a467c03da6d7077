"""Ask the operating system: CPUs, processes, private files, standard streams, the terminal, systemd.

Imports the errors and the contract.
"""
