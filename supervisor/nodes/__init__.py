"""The records and requests by which the nodes of a cluster know each other, through the Redis that they share."""
