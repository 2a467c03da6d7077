"""What the nodes of a cluster tell each other through the Redis that they share."""
