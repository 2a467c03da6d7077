"""Several workers on one event loop, which share their memory in place of a Redis: in development and in tests."""
