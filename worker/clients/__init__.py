"""Serve the clients of the hub and of the Centrifuge protocol, whatever they speak.

`client.py` decides when each request of a client is carried out, and `operations.py` carries it out.
`serving.py` serves a client from its connection to its end.
Imports the manager and what is below it.
"""
