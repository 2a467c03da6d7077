"""Talk to the operating system: CPUs, processes, ports, private files, standard streams, the terminal, systemd.

Imports the errors and the contract.
"""
