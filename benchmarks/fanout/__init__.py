"""The cost of a delivery, compared with other servers: `python -m benchmarks.fanout`."""
