"""Start and steer the real things that tests use: clusters, workers, servers, clients, Valkey, nginx, browsers."""
