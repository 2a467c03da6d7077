"""Talk to the operating system: CPUs, processes, ports, files, limits, standard streams, the terminal, systemd.

Imports the errors and the contract.
"""
