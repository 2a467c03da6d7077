"""What people may have a running supervisor do. What takes its time is an operation, and they follow its progress."""

import http.client
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from wsd.supervisor.deploys import rebalancing, rollout, scaling
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operation, Say
from wsd.supervisor.deploys.reload import reload as reload_settings
from wsd.supervisor.deploys.upgrade import check_next
from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.slot import SlotState
from wsd.supervisor.services import nginx_config
from wsd.worker.contract.events import EVENT

if TYPE_CHECKING:
    from wsd.supervisor.processes.children import Child
    from wsd.supervisor.processes.service import Service
    from wsd.supervisor.supervisor import Supervisor

logger = logging.getLogger(__name__)


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Restart(Struct, frozen=True, forbid_unknown_fields=True):
    """`slots`: none means all; `surge` null: if memory allows it."""

    slots: list[Annotated[int, Meta(ge=1)]] = []
    surge: bool | None = None


class Scale(Struct, frozen=True, forbid_unknown_fields=True):
    workers: Annotated[int, Meta(ge=1, le=256)]


class OneSlot(Struct, frozen=True, forbid_unknown_fields=True):
    slot: Annotated[int, Meta(ge=1)]


def begin(supervisor: "Supervisor", name: str, body: bytes) -> Operation:
    """One of OPERATIONS. Raises CommandError, or MsgspecError for a body that is not what it takes."""
    kind, operation = OPERATIONS[name]
    return operation(supervisor, msgspec.json.decode(body or b"{}", type=kind))


def restart(supervisor: "Supervisor", slots: Sequence[int] = (), *, surge: bool | None = None) -> Operation:
    """New processes for these slots, or all that are not drained. Raises CommandError."""
    children = supervisor.children
    targets = [_worker(supervisor, slot) for slot in dict.fromkeys(slots)] or supervisor.workers
    running = [child for child in targets if child.slot.name not in children.drained]
    if not running:
        raise CommandError("nothing to restart: these slots are drained, `wsd resume` starts them")
    return supervisor.operations.begin("restart", lambda say: rollout.restart(children, running, say, surge=surge))


def scale(supervisor: "Supervisor", workers: int) -> Operation:
    """Raises CommandError."""
    return supervisor.operations.begin("scale", lambda say: scaling.scale(supervisor, workers, say))


def reload(supervisor: "Supervisor") -> Operation:
    """Raises CommandError."""
    return supervisor.operations.begin("reload", lambda say: reload_settings(supervisor, say))


def drain(supervisor: "Supervisor", slot: int) -> Operation:
    """Raises CommandError."""
    child, children = _worker(supervisor, slot), supervisor.children
    if not any(other.slot.ready for other in supervisor.workers if other is not child):
        raise CommandError(f"{child.slot.name} is the last that serves; `wsd stop` ends the cluster")

    async def work(say: Say) -> None:
        children.drained.add(child.slot.name)
        await rollout.stop(children, [child], say)

    return supervisor.operations.begin("drain", work)


def resume(supervisor: "Supervisor", slot: int) -> Operation:
    """Raises CommandError."""
    child, children = _worker(supervisor, slot), supervisor.children
    if child.slot.state is not SlotState.STOPPED:
        raise CommandError(f"{child.slot.name} is not stopped, it is {child.slot.display_state}")

    async def work(say: Say) -> None:
        await rollout.start(children, [child], say)
        children.drained.discard(child.slot.name)
        children.record()

    return supervisor.operations.begin("resume", work)


def rebalance(supervisor: "Supervisor") -> Operation:
    """Raises CommandError."""
    config = supervisor.config
    if nginx_config.affinity(config.nginx.affinity, config.cluster.host) == "ip" and supervisor.nginx is not None:
        raise CommandError(
            'with nginx.affinity "ip" a client comes back to the worker that it was on: nothing would move'
        )
    watch = supervisor.redis_watch
    if watch is None or watch.error is not None:
        text = watch.error.summary if watch is not None and watch.error is not None else "there is no Redis"
        raise CommandError(f"{text}, and without it clients could not resume on another worker")
    return supervisor.operations.begin("rebalance", lambda say: rebalancing.rebalance(supervisor.workers, say))


def upgrade(supervisor: "Supervisor") -> Operation:
    """Raises CommandError."""

    async def work(say: Say) -> None:
        await check_next(supervisor.loaded.here)
        if not supervisor.children.record():
            raise CommandError(
                "the new code could not know what runs, the old one goes on: state.json cannot be written"
            )
        say("the new code takes over")
        supervisor.hand_over()

    return supervisor.operations.begin("upgrade", work)


async def ask_worker(supervisor: "Supervisor", method: str, target: str, body: object = None) -> bytes:
    """What one of the workers answers about the whole cluster. Raises CommandError."""
    if not supervisor.redis_url:
        raise CommandError("without Redis every worker stands alone, and none knows of the others")
    for child in supervisor.workers:
        if child.slot.ready:
            try:
                status, answer = await child.service.ask(method, target, body)
            except (OSError, http.client.HTTPException) as exc:
                raise CommandError(f"{child.slot.name} does not answer: {exc!r}") from None
            if status != 200:
                raise CommandError(f"{child.slot.name} refuses: {answer.decode(errors='replace')}")
            if method == "POST" and (ended := msgspec.json.decode(answer)["sessions"]):
                logger.info("%s ends %d sessions, asked for by %s", target, len(ended), asked_by.get(), extra=EVENT)
            return answer
    raise CommandError("no worker serves")


def _worker(supervisor: "Supervisor", slot: int) -> "Child[Service]":
    """Raises CommandError."""
    child = supervisor.children.get(f"worker-{slot}")
    if child is None:
        raise CommandError(f"there is no slot {slot}, they are 1 to {supervisor.config.cluster.workers}")
    return child


OPERATIONS: dict[str, tuple[type[Struct], Callable[["Supervisor", Any], Operation]]] = {
    "restart": (Restart, lambda supervisor, wanted: restart(supervisor, wanted.slots, surge=wanted.surge)),
    "scale": (Scale, lambda supervisor, wanted: scale(supervisor, wanted.workers)),
    "rebalance": (Nothing, lambda supervisor, wanted: rebalance(supervisor)),
    "reload": (Nothing, lambda supervisor, wanted: reload(supervisor)),
    "drain": (OneSlot, lambda supervisor, wanted: drain(supervisor, wanted.slot)),
    "resume": (OneSlot, lambda supervisor, wanted: resume(supervisor, wanted.slot)),
}

WORKER_QUESTIONS = {"sessions": "GET", "channels": "GET", "trace": "GET", "kick": "POST"}
"""What a worker knows, and does, for the whole cluster; by method."""
