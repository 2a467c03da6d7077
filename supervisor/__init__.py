"""The supervisor: one process a node that starts, watches, restarts and shows the others."""
