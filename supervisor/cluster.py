"""The cluster on this node: what runs here, and by which settings. Commands, pages and deploys work on it."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from wsd.supervisor import quoting
from wsd.supervisor.config.file_contents import PUBLIC_KEY, Digests, digests
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import Config, with_workers
from wsd.supervisor.machine.ports import listen_address
from wsd.supervisor.machine.procfs import boot_id
from wsd.supervisor.monitoring.certificate_watch import CertificateWatch
from wsd.supervisor.monitoring.health import Limits
from wsd.supervisor.monitoring.health_watch import HealthWatch
from wsd.supervisor.monitoring.redis_watch import RedisWatch
from wsd.supervisor.monitoring.scaling import ScalingPolicy
from wsd.supervisor.nodes.records import NodeIdentity, NodeState
from wsd.supervisor.processes.children import Child, Children
from wsd.supervisor.processes.clock import AwakeClock
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import RestartPolicy
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.programs import Programs
from wsd.supervisor.services.relay import RelayService
from wsd.supervisor.services.worker import WorkerService
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState


class Cluster:
    """The processes of this node, and the settings by which they run.

    `Supervisor` brings it up and down, and says in `up`, `stopping` and `handing_over` how far it is. `redis_watch`,
    `health_watch` and `certificates` are None until it has begun to watch. `notices` say what has been missing since
    the start, one line each. `describe` tells the state of the node, for its record in Redis; until `launch` has set
    it, the state is unknown. `scaling` decides how many workers there are, where scale.max is set. `inbox` names where
    this supervisor takes requests of other nodes; it is empty without a cluster key.
    """

    def __init__(
        self, loaded: Loaded, state_dir: StateDir, saved: SavedState, programs: Programs, *, umask: int
    ) -> None:
        """Begin with nothing running; `saved` is what the previous supervisor left running.

        `state_dir` is created and locked. `umask` is that of the application.
        """
        config = loaded.config
        self.loaded = loaded
        self.state_dir = state_dir
        self.programs = programs
        self.clock = AwakeClock()
        self.children = Children(state_dir, _restart_policy(config), self.clock)
        self.children.drained = set(saved.drained)
        self.children.unclaimed = list(saved.processes)
        self.redis_url = programs.redis_url(config.redis.url)
        self.fallback_url = programs.fallback_url(config.redis.url)
        self.redis_watch: RedisWatch | None = None
        self.health_watch: HealthWatch | None = None
        self.certificates: CertificateWatch | None = None
        self.scaling = ScalingPolicy()
        self.notices = list(programs.notices)
        self.dashboard_secret = state_dir.dashboard_secret()
        self.inbox = secrets.token_hex(16) if config.cluster.cluster_key else ""
        self.started_at = time.monotonic()
        self.describe: Callable[[], NodeState] = NodeState
        self.up = False
        self.stopping = False
        self.handing_over = False
        self.contents: Digests = {}
        self.configure(with_workers(config, saved.workers or config.cluster.workers), digests(config))
        self._umask = umask
        self._nginx_update = asyncio.Lock()

    @property
    def is_ending(self) -> bool:
        """Tell whether this supervisor ends, with its cluster or without."""
        return self.stopping or self.handing_over

    # Settings

    def configure(self, config: Config, contents: Digests | None = None) -> None:
        """Use these settings from now on. Processes that run keep the settings that they were started with.

        `contents` are the digests of the files that the settings name; None means that they are as they were.
        """
        self.config = config
        if contents is not None:
            self.contents = contents
        self.children.workers = config.cluster.workers
        self.children.policy = _restart_policy(config)
        for child in self.workers:
            child.service.configure(config, self.contents.get(PUBLIC_KEY, ""))
            child.slot = replace(child.slot, patience=child.service.patience)
        if self.relay is not None:
            self.relay.service.configure(config)
        if self.health_watch is not None:
            self.health_watch.configure(limits(config))

    def outdated(self) -> list[Child[Service]]:
        """Return the workers, and the relay, whose process was started with other settings than those of now."""
        return [
            child
            for child in self.children
            if child.slot.current is not None and child.service.is_outdated(child.slot.current.number)
        ]

    async def update_nginx(self, say: Callable[[str], None]) -> None:
        """Let nginx use the configuration that follows from the settings.

        Raises StartError when nginx refuses it; nginx then keeps the configuration that it has.
        """
        child = self.nginx
        if child is None:
            return
        async with self._nginx_update:  # the guard over the file and an operation may both want it
            if await child.service.prepare(self.config):
                await child.service.reload(child.process)
                say("nginx has its new configuration")
                if self.certificates is not None:
                    self.certificates.served()

    # Processes

    @property
    def workers(self) -> list[Child[WorkerService]]:
        return self.children.of(WorkerService)

    @property
    def nginx(self) -> Child[NginxService] | None:
        return next(iter(self.children.of(NginxService)), None)

    @property
    def relay(self) -> Child[RelayService] | None:
        return next(iter(self.children.of(RelayService)), None)

    def relay_services(self) -> list[RelayService]:
        """Return the service of the relay, if the settings ask for one. It needs a Redis to publish in."""
        if not self.config.postgres.url or not self.redis_url:
            return []
        return [RelayService(self.config, self.state_dir, self.redis_url)]

    def worker_services(self) -> list[WorkerService]:
        """Return a service for each worker that the settings ask for."""
        return [self.make_worker(slot) for slot in range(1, self.config.cluster.workers + 1)]

    def make_worker(self, slot: int) -> WorkerService:
        return WorkerService(
            slot,
            self.config,
            self.state_dir,
            node_id=self.loaded.node_id,
            here=self.loaded.here,
            umask=self._umask,
            app_directory=self.loaded.directory,
            redis_url=self.redis_url,
            fallback_url=self.fallback_url,
            public_key_digest=self.contents.get(PUBLIC_KEY, ""),
            listen="" if self.programs.nginx is not None else listen_address(*self._address),
        )

    def log_files(self) -> list[Path]:
        return [*self.state_dir.logs.glob("*.log"), self.state_dir.events]

    # Addresses

    @property
    def url(self) -> str:
        """The address for a browser on this machine."""
        host, port = self._address
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host.strip("[]"), host)
        secure = "s" if self.config.nginx.tls_certificate and self.programs.nginx is not None else ""
        return f"http{secure}://{listen_address(shown, port)}/"

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "ws"

    @property
    def advertised_url(self) -> str:
        """The address at which clients and other machines reach this node. A reload may change it."""
        return self.config.cluster.advertise or self.websocket_url

    @cached_property
    def identity(self) -> NodeIdentity:
        """The part of the record of this node that stays the same."""
        host, root = socket.gethostname(), quoting.encodable(self.state_dir.root)
        # The lock of the state directory admits one supervisor at a time, so a lease that a crash of ours left is ours.
        return NodeIdentity(
            owner=f"{host}:{boot_id()}:{root}",
            host=host,
            pid=os.getpid(),
            boot_id=boot_id(),
            state_dir=root,
            version=version("wsd-cluster"),
            inbox=self.inbox,
        )

    @property
    def _address(self) -> tuple[str, int]:
        return self.config.cluster.host, self.config.cluster.port


def limits(config: Config) -> Limits:
    """Return what the settings allow a process, for the verdict on its health."""
    health = config.health
    return Limits(health.heartbeat_timeout, health.probe_timeout, health.max_rss, health.max_age, health.max_messages)


def _restart_policy(config: Config) -> RestartPolicy:
    restart = config.restart
    return RestartPolicy(
        backoff_initial=restart.backoff_initial,
        backoff_max=restart.backoff_max,
        stable_after=restart.stable_after,
        max_restarts=restart.max_restarts,
        window=restart.window,
        start_timeout=config.health.start_timeout,
    )
