"""Read settings from environment variables."""

from collections.abc import Mapping

from wsd.supervisor.config.keys import REMOVED_KEYS, all_keys
from wsd.supervisor.config.layers import Layer, Setting
from wsd.supervisor.config.wording import did_you_mean
from wsd.supervisor.machine.identity import MARK
from wsd.worker.contract.environment import INTERNAL_ENV_NAMES
from wsd.worker.contract.relay_environment import RELAY_NAMES

FIXED_ENV_NAMES = {
    "REDIS_URL": ("redis", "url"),
    "REDIS_SENTINEL_USERNAME": ("redis", "sentinel_username"),
    "REDIS_SENTINEL_PASSWORD": ("redis", "sentinel_password"),
    "NODE_ID": ("cluster", "node_id"),
}
"""Variables that are read for a setting beside the name that `env_name` gives it."""

PUBLISHER_ENV_NAMES = frozenset({"WSD_URL", "WSD_API_KEY"})
"""Variables that say where programs, and commands like `wsd publish`, find a cluster."""

OTHER_ENV_NAMES = frozenset({"WSD_CONFIG", "WSD_READY_FD", "WSD_LOCK_FD", MARK}).union(
    INTERNAL_ENV_NAMES, RELAY_NAMES, PUBLISHER_ENV_NAMES
)
"""Variables of wsd that are no settings."""


def read_environ(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """Return the settings in the environment, and a warning for each WSD_ variable that is no setting.

    Such a variable is no error, since others use these names, too: for a service called "wsd", Kubernetes sets
    WSD_SERVICE_HOST. An empty variable counts as not set.
    """
    names = {env_name(*key): key for key in all_keys()} | FIXED_ENV_NAMES
    removed = {env_name(*key) for key in REMOVED_KEYS}
    layer: Layer = {}
    warnings: list[str] = []
    for name, text in sorted(environ.items()):
        if name in names:
            if text:
                layer[names[name]] = Setting(text, name, is_text=True)
        elif name.startswith("WSD_") and name not in OTHER_ENV_NAMES:
            hint = ", it was removed" if name in removed else did_you_mean(name, names)
            warnings.append(f"{name} is not a setting of wsd{hint}")
    return layer, tuple(warnings)


def env_name(section: str, key: str) -> str:
    """Return the variable of a setting: `WSD_PORT` for cluster.port, `WSD_NGINX_WORKERS` for nginx.workers."""
    return f"WSD_{key}".upper() if section == "cluster" else f"WSD_{section}_{key}".upper()
