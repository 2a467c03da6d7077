"""Work on several nodes: signed requests from one supervisor to another, and clients that move between nodes.

`inbox` takes requests and `sender` sends them, both through Redis. `node_loads` decides who sends how many clients
away, `joining` when that is done without being asked, and `moving` does it.
"""
