"""Name the HTTP paths that every worker answers, and the header that authorizes the supervisor."""

# What every worker answers over HTTP; nginx treats some of them apart.
HEALTH_PATH = "/health"
STATS_PATH = "/api/websocket/stats"
PUBLISH_PATH = "/api/websocket/publish"
HISTORY_PATH = "/api/websocket/history/"  # and a channel
METRICS_PATH = "/metrics"
OPERATOR_PREFIX = "/_wsd/"  # for the supervisor alone
OPERATOR_KEY_HEADER = "X-WSD-Operator-Key"
