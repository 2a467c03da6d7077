"""`wsd dev`, from its options to its end."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from wsd.supervisor.config.loading import CONFIG_FILE, Loaded
from wsd.supervisor.counts import count
from wsd.supervisor.dev.development import Development
from wsd.supervisor.dev.instance import Instance
from wsd.supervisor.dev.listener import listen
from wsd.supervisor.dev.source_files import SourceFiles
from wsd.supervisor.dev.task import DEVELOPMENT_KEY, uses_development_key
from wsd.supervisor.errors import ConfigError


def run(
    loaded: Loaded,
    config_file: str | None,
    workers: int,
    reload_dirs: Sequence[Path],
    *,
    reloads: bool,
    first: Instance,
) -> None:
    """Serve until Ctrl-C. `first`: the process to begin with. Raises CommandError."""
    sources = _sources(loaded, config_file, reload_dirs)
    with listen(loaded.config.cluster.host, loaded.config.cluster.port) as listener:
        lines = tuple(banner(loaded, sources if reloads else None, workers))
        development = Development(loaded, listener, sources, workers=workers, reloads=reloads, banner=lines)
        asyncio.run(development.run(first))


def _sources(loaded: Loaded, config_file: str | None, reload_dirs: Sequence[Path]) -> SourceFiles:
    for directory in reload_dirs:
        if not directory.is_dir():
            raise ConfigError(f'--reload-dir "{directory}" is not a directory')
    # Symbolic links are resolved, since the system names changed files by their real paths.
    directories = dict.fromkeys(path.resolve() for path in reload_dirs or (loaded.directory, loaded.here))
    outermost = [
        path for path in directories if not any(path != each and path.is_relative_to(each) for each in directories)
    ]
    name = config_file or os.environ.get("WSD_CONFIG") or CONFIG_FILE
    return SourceFiles(tuple(outermost), (loaded.here / name).resolve())


def banner(loaded: Loaded, sources: SourceFiles | None, workers: int) -> list[str]:
    """Return the lines that say what is served. `sources`: None if changes have no effect."""
    config = loaded.config
    served = config.cluster.app or "the built-in hub"
    lines = [f"wsd dev serves {served} at {url(config.cluster.host, config.cluster.port)}"]
    not_used = " (redis.url is not used)" if config.redis.url else ""
    lines.append(f"  memory   {count(workers, 'worker')} in one process, without nginx and Redis{not_used}")
    if sources is not None:
        watched = ", ".join(map(str, sources.directories))
        lines.append(f"  watches  *.py and {sources.settings_file.name} in {watched}")
    if uses_development_key(config):
        lines.append(f"  publish  POST /api/websocket/publish with the API key {DEVELOPMENT_KEY}")
    lines.append("  stop     Ctrl-C")
    return lines


def url(host: str, port: int) -> str:
    """Return the URL to open in a browser."""
    shown = host.strip("[]")
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(shown, f"[{shown}]" if ":" in shown else shown)
    return f"http://{shown}:{port}/"
