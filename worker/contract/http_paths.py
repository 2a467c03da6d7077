"""Name the HTTP paths that every worker answers, and the header that authorizes the supervisor."""

# nginx restricts who may ask for some of these paths, see templates/nginx.conf.j2.
HEALTH_PATH = "/health"
STATS_PATH = "/api/websocket/stats"
PUBLISH_PATH = "/api/websocket/publish"
HISTORY_PATH = "/api/websocket/history/"  # followed by the name of a channel
PRESENCE_PATH = "/api/websocket/presence/"  # followed by the name of a channel
CHANNELS_PATH = "/api/websocket/channels"
SESSIONS_PATH = "/api/websocket/sessions"
DISCONNECT_PATH = "/api/websocket/disconnect"
SUBSCRIBE_PATH = "/api/websocket/subscribe"
UNSUBSCRIBE_PATH = "/api/websocket/unsubscribe"
OPENAPI_PATH = "/api/websocket/openapi.json"
ASYNCAPI_PATH = "/api/websocket/asyncapi.json"
METRICS_PATH = "/metrics"
CENTRIFUGE_PATH = "/connection/websocket"  # of the hub
OPERATOR_PREFIX = "/_wsd/"  # the rest is for the supervisor alone
OPERATOR_KEY_HEADER = "X-WSD-Operator-Key"
