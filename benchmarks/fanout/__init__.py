"""What a delivery costs, beside others: `python -m benchmarks.fanout`."""
