"""The `wsd` command: its options and help, and what it prints. This is the only folder that ends the process.

May import every other folder of the supervisor.
"""
