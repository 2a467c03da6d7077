"""The commands that change a running cluster. Each checks its request and begins an operation.

`wsd restart` goes from `cli.operations` over the control socket to `control.server`, which calls `begin` here.
OPERATIONS names the function; the work itself is in `deploys`. The caller follows the progress of the operation.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.counts import count
from wsd.supervisor.deploys import rebalancing, scaling, upgrade
from wsd.supervisor.deploys import reload as reloading
from wsd.supervisor.deploys.operations import Operation, Operations, Say
from wsd.supervisor.deploys.restart import restart_children, start_children, stop_children
from wsd.supervisor.errors import CommandError
from wsd.supervisor.peers import moving, sender
from wsd.supervisor.peers.moving import SEND_AWAY
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import SlotState


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that has no parameters."""


class Restart(Struct, frozen=True, forbid_unknown_fields=True):
    """A restart of `slots`, or of all where none is named. With `surge` null, it is a surge if the memory allows it."""

    slots: list[Annotated[int, Meta(ge=1)]] = []
    surge: bool | None = None


class Scale(Struct, frozen=True, forbid_unknown_fields=True):
    workers: Annotated[int, Meta(ge=1, le=256)]


class OneSlot(Struct, frozen=True, forbid_unknown_fields=True):
    slot: Annotated[int, Meta(ge=1)]


class SendAway(Struct, frozen=True, forbid_unknown_fields=True):
    connections: Annotated[int, Meta(ge=1)]


class OnNode(Struct, frozen=True, forbid_unknown_fields=True):
    """An action on another node: one of ACTIONS, with the body that it takes."""

    node: str
    action: str
    body: dict[str, Any] = {}


OPERATIONS: dict[str, tuple[type[Struct], Callable[[Cluster, Operations, Any], Operation]]] = {
    "restart": (Restart, lambda c, ops, body: begin_restart(c, ops, body.slots, surge=body.surge)),
    "scale": (Scale, lambda c, ops, body: begin_scale(c, ops, body.workers)),
    "rebalance": (Nothing, lambda c, ops, body: begin_rebalance(c, ops)),
    "reload": (Nothing, lambda c, ops, body: begin_reload(c, ops)),
    "drain": (OneSlot, lambda c, ops, body: begin_drain(c, ops, body.slot)),
    "resume": (OneSlot, lambda c, ops, body: begin_resume(c, ops, body.slot)),
    SEND_AWAY: (SendAway, lambda c, ops, body: begin_send_away(c, ops, body.connections)),
    "rebalance-nodes": (Nothing, lambda c, ops, body: begin_rebalance_nodes(c, ops)),
    "on-node": (OnNode, lambda c, ops, wanted: begin_on_node(c, ops, wanted=wanted)),
}
"""The commands by name: the body that each takes, and the function that begins it."""

ACTIONS = ("restart", "scale", "rebalance", "reload", "drain", "resume", SEND_AWAY)
"""The commands that other nodes may ask for."""


def begin(cluster: Cluster, operations: Operations, name: str, body: bytes) -> Operation:
    """Begin one of OPERATIONS with the body of a request.

    Raises CommandError, or MsgspecError for a body that the operation does not take.
    """
    kind, operation = OPERATIONS[name]
    return operation(cluster, operations, msgspec.json.decode(body or b"{}", type=kind))


def begin_action(cluster: Cluster, operations: Operations, name: str, body: bytes) -> Operation:
    """Begin one of ACTIONS for another node. Raises as `begin`."""
    if name not in ACTIONS:
        raise CommandError(f'another node may not ask for "{name}", only for {", ".join(ACTIONS)}')
    return begin(cluster, operations, name, body)


def begin_on_node(cluster: Cluster, operations: Operations, *, wanted: OnNode) -> Operation:
    """Let another node carry out one of ACTIONS, and follow its progress here. Raises CommandError or MsgspecError."""
    if wanted.action not in ACTIONS:
        raise CommandError(f'a node may not be asked for "{wanted.action}", only for {", ".join(ACTIONS)}')
    if wanted.node == cluster.loaded.node_id:
        return begin(cluster, operations, wanted.action, msgspec.json.encode(wanted.body))
    sender.demand_key(cluster)
    name = f"{wanted.action} on {wanted.node}"
    return operations.begin(name, lambda say: sender.ask_node(cluster, wanted.node, wanted.action, wanted.body, say))


def begin_restart(
    cluster: Cluster, operations: Operations, slots: Sequence[int] = (), *, surge: bool | None = None
) -> Operation:
    """Give these slots new processes, or all slots that are not drained and the relay. Raises CommandError."""
    children = cluster.children
    relays = [cluster.relay] if cluster.relay is not None else []
    targets = [_worker(cluster, slot) for slot in dict.fromkeys(slots)] or [*cluster.workers, *relays]
    running = [child for child in targets if child.slot.name not in children.drained]
    if not any(child in running for child in cluster.workers):
        raise CommandError("nothing to restart: these slots are drained; `wsd resume` puts them back into service")
    return operations.begin("restart", lambda say: restart_children(children, running, say, surge=surge))


def begin_scale(cluster: Cluster, operations: Operations, workers: int) -> Operation:
    """Change the number of workers. Raises CommandError, also for a number that autoscaling would not keep."""
    limits = cluster.config.scale
    if limits.max and not limits.min <= workers <= limits.max:
        key = "min" if workers < limits.min else "max"
        raise CommandError(
            f"autoscaling keeps {limits.min} to {count(limits.max, 'worker')}: for {workers}, change scale.{key} in "
            "wsd.toml, and `wsd reload`"
        )
    return operations.begin("scale", lambda say: scaling.scale(cluster, workers, say))


def begin_reload(cluster: Cluster, operations: Operations) -> Operation:
    """Read the settings again, and apply what has changed. Raises CommandError."""
    return operations.begin("reload", lambda say: reloading.reload(cluster, say))


def begin_drain(cluster: Cluster, operations: Operations, slot: int) -> Operation:
    """Drain the worker in a slot, which stays empty until it is resumed. Raises CommandError."""
    child, children = _worker(cluster, slot), cluster.children
    if not any(other.slot.ready for other in cluster.workers if other is not child):
        raise CommandError(f"{child.slot.name} is the last worker that serves; `wsd stop` ends the cluster")

    async def work(say: Say) -> None:
        children.drained.add(child.slot.name)
        await stop_children(children, [child], say)

    return operations.begin("drain", work)


def begin_resume(cluster: Cluster, operations: Operations, slot: int) -> Operation:
    """Start a worker in a slot that was drained. Raises CommandError."""
    child, children = _worker(cluster, slot), cluster.children
    if child.slot.state is not SlotState.STOPPED:
        raise CommandError(f"{child.slot.name} is not stopped, it is {child.slot.display_state}")

    async def work(say: Say) -> None:
        await start_children(children, [child], say)
        children.drained.discard(child.slot.name)
        children.record()

    return operations.begin("resume", work)


def begin_rebalance(cluster: Cluster, operations: Operations) -> Operation:
    """Let workers with too many connections close some, whose clients resume on others. Raises CommandError."""
    if (reason := rebalancing.refusal(cluster)) is not None:
        raise CommandError(reason)
    return operations.begin("rebalance", lambda say: rebalancing.rebalance(cluster.workers, say))


def begin_send_away(cluster: Cluster, operations: Operations, connections: int) -> Operation:
    """Let this node's workers close connections, whose clients resume on other nodes. Raises CommandError."""
    return operations.begin(SEND_AWAY, lambda say: moving.send_away(cluster.workers, connections, say))


def begin_rebalance_nodes(cluster: Cluster, operations: Operations) -> Operation:
    """Let full nodes send clients away, which resume on others. Raises CommandError."""
    sender.demand_key(cluster)
    return operations.begin("rebalance of all nodes", lambda say: moving.rebalance_nodes(cluster, say))


def begin_upgrade(cluster: Cluster, operations: Operations, hand_over: Callable[[], None]) -> Operation:
    """Check the installed version of wsd, and let it take over by `hand_over`. Raises CommandError."""

    async def work(say: Say) -> None:
        await upgrade.check_next(cluster.loaded.here)
        if not cluster.children.record():
            raise CommandError(
                "state.json cannot be written, so the new supervisor could not know what runs; this one keeps running"
            )
        say("the new supervisor takes over")
        hand_over()

    return operations.begin("upgrade", work)


def _worker(cluster: Cluster, slot: int) -> Child[Service]:
    """Return the worker in a slot. Raises CommandError when there is none."""
    child = cluster.children.get(f"worker-{slot}")
    if child is None:
        last = cluster.config.cluster.workers
        slots = f"slots 1 to {last}" if last > 1 else "slot 1 only"
        raise CommandError(f"there is no slot {slot}: this cluster has {slots}")
    return child
