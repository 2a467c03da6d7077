"""Functions and classes that start and control what tests use: clusters, workers, servers, clients, browsers."""
