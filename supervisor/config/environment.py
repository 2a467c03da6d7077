"""Read the layer of settings that the environment holds."""

from collections.abc import Mapping

from wsd.supervisor.config.keys import REMOVED_KEYS, all_keys
from wsd.supervisor.config.layers import Layer, Setting
from wsd.supervisor.config.wording import did_you_mean
from wsd.supervisor.machine.identity import MARK
from wsd.worker.contract.environment import INTERNAL_ENV_NAMES

FIXED_ENV_NAMES = {"REDIS_URL": ("redis", "url"), "NODE_ID": ("cluster", "node_id")}
OTHER_ENV_NAMES = frozenset({"WSD_CONFIG", "WSD_READY_FD", "WSD_LOCK_FD", MARK}) | INTERNAL_ENV_NAMES


def read_environ(environ: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """The settings in the environment, and a warning for each WSD_ name that is none.

    A warning and no error: others use such names, too (Kubernetes sets WSD_SERVICE_HOST for a service "wsd").
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
    """`WSD_PORT` for cluster.port, `WSD_NGINX_WORKERS` for nginx.workers."""
    return f"WSD_{key}".upper() if section == "cluster" else f"WSD_{section}_{key}".upper()
