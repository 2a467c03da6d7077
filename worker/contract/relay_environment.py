"""Define the configuration of the relay, the process that publishes what PostgreSQL holds for the clients."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from wsd.worker.contract.variables import to_variables, values_in, variable, variable_names


@dataclass(frozen=True, kw_only=True)
class RelayEnv:
    """The configuration of a relay, read from its environment. Times are in seconds, sizes in bytes."""

    bind_path: str = variable("WSD_RELAY_BIND_PATH", "")  # the socket where the supervisor asks for the status
    events_path: str = variable("WSD_RELAY_EVENTS_PATH", "")  # the node's file of events

    postgres_url: str = variable("WSD_RELAY_POSTGRES_URL", "", "postgres.url")
    listen_url: str = variable("WSD_RELAY_LISTEN_URL", "", "postgres.listen_url")  # "": postgres_url
    table: str = variable("WSD_RELAY_TABLE", "wsd_outbox", "postgres.table")
    archive_table: str = variable("WSD_RELAY_ARCHIVE_TABLE", "wsd_archive", "postgres.archive_table")

    redis_url: str = variable("WSD_RELAY_REDIS_URL", "")
    redis_connect_timeout: float = variable("WSD_RELAY_REDIS_CONNECT_TIMEOUT", 1.0, "redis.connect_timeout")
    redis_sentinel_username: str = variable("WSD_RELAY_REDIS_SENTINEL_USERNAME", "", "redis.sentinel_username")
    redis_sentinel_password: str = variable("WSD_RELAY_REDIS_SENTINEL_PASSWORD", "", "redis.sentinel_password")
    redis_timeout: float = variable("WSD_RELAY_REDIS_TIMEOUT", 2.0, "redis.timeout")

    channels: str = variable("WSD_RELAY_CHANNELS", "")  # the [channels] sections as JSON: options by pattern
    max_message_bytes: int = variable("WSD_RELAY_MAX_MESSAGE_BYTES", 65_536, "websocket.max_message_bytes")

    log_level: str = variable("WSD_RELAY_LOG_LEVEL", "info", "log.level")
    log_format: str = variable("WSD_RELAY_LOG_FORMAT", "text", "log.format")

    @property
    def session_url(self) -> str:
        """The address at which a connection to PostgreSQL is a session of its own."""
        return self.listen_url or self.postgres_url

    def to_env(self) -> dict[str, str]:
        """Return the variables to start a relay with. `from_env` reads the same record from them."""
        return to_variables(self)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the record. Variables that are not set mean the defaults.

        Raises ValueError with the name of the variable and its value.
        """
        return cls(**values_in(environ, cls))


RELAY_NAMES = variable_names(RelayEnv)
"""The environment variables of a relay. People set the keys of wsd.toml."""
