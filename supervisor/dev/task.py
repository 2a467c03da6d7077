"""The task of a process of `wsd dev`: the settings, as its environment holds them."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import msgspec

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import Config
from wsd.supervisor.services.worker_settings import settings_for
from wsd.worker.contract.dev_channel import Task
from wsd.worker.contract.environment import WorkerEnv

DEVELOPMENT_KEY = "dev"
"""The API key where the settings name none, and nobody but this machine can use it."""


def task_of(loaded: Loaded, workers: int, watched: Iterable[Path]) -> Task:
    """Return the task of a process. `watched`: the directories whose files are watched."""
    config = loaded.config
    env = WorkerEnv(
        node_id=loaded.node_id,
        distributed=False,
        app_directory=str(loaded.directory),
        channels=msgspec.json.encode(config.channels).decode(),
        api_keys=msgspec.json.encode(config.api_keys).decode() if config.api_keys else "",
    )
    env = replace(env, **settings_for(WorkerEnv, config))
    if uses_development_key(config):
        env = replace(env, api_key=DEVELOPMENT_KEY)
    sources = dict.fromkeys(str(path.resolve()) for path in (*watched, loaded.directory, loaded.here))
    return Task(env.to_env(), str(loaded.here), workers, list(sources))


def uses_development_key(config: Config) -> bool:
    """Tell whether programs publish with the key of development."""
    return not (config.security.api_key or config.api_keys) and is_loopback(config.cluster.host)


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
