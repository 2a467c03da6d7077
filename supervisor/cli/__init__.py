"""Be the `wsd` command. This is the only folder that ends the process.

Imports every other folder of the supervisor.
"""
