"""Checks of Sentinels: whether they answer, agree, can fail over, and do so in good time; and of the replicas."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from redis.asyncio import Redis

from wsd.supervisor.counts import count
from wsd.supervisor.monitoring.finding import Finding, failure, ok, warning
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError, redis_errors
from wsd.worker.contract.redis_address import Place, shown
from wsd.worker.contract.sentinels.connection import ErrorAnswer, connected
from wsd.worker.contract.sentinels.sentinels import Sentinels
from wsd.worker.contract.sentinels.words import Word

ENOUGH_SENTINELS = 3
"""Two cannot agree once one of them is lost."""

SHORTEST_DOWN_AFTER_MS = 1000
LONGEST_DOWN_AFTER_MS = 15_000
"""The silences of a primary outside of which a warning is given: a pause is no outage, and messages wait meanwhile."""


@dataclass(frozen=True)
class SentinelReport:
    """The answers of one Sentinel. `problem` says why it says nothing; `state` is the answer to SENTINEL MASTER."""

    place: Place
    problem: str = ""
    word: Word | None = None
    state: dict[str, str] = field(default_factory=dict)
    quorum_problem: str = ""


async def examine_sentinels(sentinels: Sentinels) -> list[Finding]:
    """Ask all Sentinels, and judge what they say."""
    reports = await asyncio.gather(*(_report(sentinels, place) for place in sentinels.places))
    return list(judge_sentinels(sentinels.name, reports))


async def _report(sentinels: Sentinels, place: Place) -> SentinelReport:
    name = sentinels.name
    try:
        async with asyncio.timeout(3 * sentinels.login.timeout), connected(place, sentinels.login) as connection:
            word = await connection.word(name)
            if word is None:
                masters = await connection.ask("SENTINEL", "MASTERS")
                known = [fields[fields.index("name") + 1] for fields in masters]
                return SentinelReport(place, f'knows no primary "{name}", only: {", ".join(known) or "none"}')
            answer = await connection.ask("SENTINEL", "MASTER", name)
            state = dict(zip(answer[::2], answer[1::2], strict=True))
            try:
                await connection.ask("SENTINEL", "CKQUORUM", name)
            except ErrorAnswer as exc:
                return SentinelReport(place, word=word, state=state, quorum_problem=str(exc))
            return SentinelReport(place, word=word, state=state)
    except (OSError, ValueError, ErrorAnswer) as exc:
        return SentinelReport(place, str(exc) or "no answer in time")


def judge_sentinels(name: str, reports: Sequence[SentinelReport]) -> Iterator[Finding]:
    """Judge what the Sentinels of a URL say about the primary of this name. Pure."""
    silent = [f"{shown(report.place)}: {report.problem}" for report in reports if report.problem]
    told = [report for report in reports if report.word is not None]
    if not told:
        remedy = "check hosts and ports of redis.url, redis.sentinel_username and redis.sentinel_password"
        yield failure("Sentinels", f"none of {len(reports)} answers: {'; '.join(silent)}", remedy)
        return
    if silent:
        found = f"{len(silent)} of {len(reports)} do not answer: {'; '.join(silent)}"
        yield warning("Sentinels", found, "start them again, or take those that are gone out of redis.url")
    places = {report.word.place for report in told if report.word is not None}
    if len(places) > 1:
        words = "; ".join(f"{shown(r.place)} says {shown(r.word.place)}" for r in told if r.word is not None)
        yield failure(
            "Sentinels", f"they disagree about the primary: {words}", "SENTINEL RESET on those that are wrong"
        )
    else:
        agreed = f"{len(told)} of {len(reports)} answer, and name {shown(next(iter(places)))} as the primary"
        yield ok("Sentinels", f'{agreed} of "{name}"')
    known = max(_number(report, "num-other-sentinels") + 1 for report in told)
    if known < ENOUGH_SENTINELS:
        remedy = "run three, on machines that fail apart: two cannot agree once one is lost"
        yield warning("Sentinels: number", f"they are only {known}", remedy)
    elif len(reports) < ENOUGH_SENTINELS:
        remedy = "list them all: news of a failover are heard from those that are listed"
        yield warning("Sentinels: number", f"redis.url lists {len(reports)} of {known}", remedy)
    if problems := {report.quorum_problem for report in told if report.quorum_problem}:
        remedy = "no failover is possible now: start the Sentinels that are missing"
        yield failure("Sentinels: quorum", "; ".join(sorted(problems)), remedy)
    else:
        yield ok("Sentinels: quorum", f"{max(_number(report, 'quorum') for report in told)} must agree, and can")
    if not max(_number(report, "num-slaves") for report in told):
        remedy = "start a replica (replicaof): nothing can take over without one"
        yield warning("Sentinels: replicas", "they know none", remedy)
    yield from _down_after(told)


def _down_after(told: Sequence[SentinelReport]) -> Iterator[Finding]:
    times = sorted({_number(report, "down-after-milliseconds") for report in told})
    text = f"a primary is replaced after {' or '.join(f'{ms / 1000:g} s' for ms in times)} of silence"
    remedy = "SENTINEL SET {name} down-after-milliseconds 5000, the same on all: {why}"
    if times[0] < SHORTEST_DOWN_AFTER_MS:
        why = "a pause of the machine is no outage, and each failover may lose messages"
        yield warning("Sentinels: down-after", text, remedy.format(name="NAME", why=why))
    elif times[-1] > LONGEST_DOWN_AFTER_MS:
        why = "messages wait for that long, up to redis.spool_messages"
        yield warning("Sentinels: down-after", text, remedy.format(name="NAME", why=why))
    elif len(times) > 1:
        why = "the slowest of the quorum decides"
        yield warning("Sentinels: down-after", text, remedy.format(name="NAME", why=why))
    else:
        yield ok("Sentinels: down-after", text)


def _number(report: SentinelReport, name: str) -> int:
    text = report.state.get(name, "")
    return int(text) if text.isdecimal() else 0


async def examine_replication(client: Redis) -> list[Finding]:
    """Check the replicas of the primary."""
    try:
        with redis_errors():
            info = await client.info("replication")
    except RedisUnusableError as exc:
        return [failure("Redis: replication", str(exc), "allow this user the command INFO (ACL SETUSER)")]
    return list(judge_replication(info))


def judge_replication(info: dict[str, object]) -> Iterator[Finding]:
    """Judge the section replication of the primary's INFO. Pure.

    It names the replicas that are good enough only where min-replicas-to-write asks for some.
    """
    connected_replicas = int(str(info.get("connected_slaves", 0)))
    text = count(connected_replicas, "replica") + " connected"
    if "min_slaves_good_slaves" not in info:
        remedy = (
            "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 3 on all servers, and in their files: a "
            "primary that was cut off otherwise acknowledges messages that are lost when it is replaced"
        )
        yield warning("Redis: replication", f"{text}, min-replicas-to-write is 0", remedy)
    else:
        yield ok("Redis: replication", f"{text}, min-replicas-to-write is set")
