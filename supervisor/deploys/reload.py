"""Apply changed settings to a running cluster: all of them, or none."""

import logging
from contextlib import suppress

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.display import changes
from wsd.supervisor.config.file_contents import Digests, changed, digests
from wsd.supervisor.config.keys import Key
from wsd.supervisor.config.settings import Config, with_workers
from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.deploys.relaying import bring_relay
from wsd.supervisor.deploys.restart import restart_children
from wsd.supervisor.deploys.scaling import scale
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.services.relay import check_asyncpg

FIXED: dict[Key, str] = {
    ("cluster", "node_id"): "workers and sessions are named after it",
    ("cluster", "state_dir"): "everything that runs is in it",
    ("cluster", "cluster_key"): "the supervisor reads it when it starts",
    ("redis", "url"): "sessions and messages are in the old one",
    ("redis", "embedded"): "sessions and messages are in the old one",
    ("redis", "stand_in"): "it is started with the cluster",
    ("redis", "max_memory"): "Valkey reads it when it starts",
    ("redis", "connect_timeout"): "the supervisor's own connection uses it",
    ("nginx", "enabled"): "the port stays with the process that has it",
    ("nginx", "binary"): "the running nginx is the old one",
    ("health", "heartbeat_interval"): "the supervisor watches the workers by it",
}
"""The settings that only a new start changes, and why."""

FIXED_WITHOUT_NGINX = {("cluster", "host"), ("cluster", "port")}


async def reload(cluster: Cluster, say: Say) -> None:
    """Read the settings again, and apply what has changed.

    Raises CommandError when that is not possible; the cluster is then as before.
    """
    before = cluster.config
    loaded = cluster.loaded.again()
    found = list(changes(cluster.loaded.config, loaded.config))
    # A number of workers set by `wsd scale` stays, until the file has another number than it had.
    has_count = any(key == ("cluster", "workers") for key, _ in found)
    after = loaded.config if has_count else with_workers(loaded.config, before.cluster.workers)
    check_asyncpg(after)
    contents = digests(after)
    found += changed(cluster.contents, contents, after)
    _refuse(found, with_nginx=cluster.nginx is not None)
    for _, text in found:
        say(text)
    if not found:
        say("no setting has changed")
        return
    await _apply(cluster, after, before, say, contents)
    cluster.loaded = loaded
    logging.getLogger().setLevel(after.log.level.upper())


async def _apply(cluster: Cluster, after: Config, before: Config, say: Say, contents: Digests) -> None:
    """Bring nginx and the workers to the settings `after`, or back to those `before`. Raises CommandError."""
    # The number of workers changes last, so that new workers start with the new settings.
    count = before.cluster.workers
    contents_before = cluster.contents
    cluster.configure(with_workers(after, count), contents)
    try:
        await cluster.update_nginx(say)
        await bring_relay(cluster, say)
        if outdated := cluster.outdated():
            await restart_children(cluster.children, outdated, say)
        if after.cluster.workers != count:
            await scale(cluster, after.cluster.workers, say)
    except CommandError as exc:
        cluster.configure(before, contents_before)
        with suppress(CommandError):  # if nginx refuses these as well, it keeps the configuration that it has
            await cluster.update_nginx(lambda text: None)
        with suppress(CommandError):
            await bring_relay(cluster, lambda text: None)
        if outdated := cluster.outdated():  # a restart one by one had changed some of them already
            await restart_children(cluster.children, outdated, say)
        raise CommandError(f"{exc}; the settings are as before") from None


def _refuse(found: list[tuple[Key, str]], *, with_nginx: bool) -> None:
    """Refuse changes that a running cluster cannot make. Raises ConfigError."""
    reasons = []
    for key, text in found:
        if key in FIXED:
            reasons.append(f"{text} ({FIXED[key]})")
        elif key in FIXED_WITHOUT_NGINX and not with_nginx:
            reasons.append(f"{text} (the workers share the port themselves)")
    if reasons:
        raise ConfigError(f"needs `wsd stop` and `wsd start`, so nothing has changed: {'; '.join(reasons)}")
