"""Replace processes without dropping a handshake.

New processes start beside the old ones, then the sockets are swapped, then the old processes drain. In a surge all new
processes are healthy before the first takes over, so each client moves once. A replacement one by one needs the memory
of only one more process, but a client may move to a process that is replaced later.
"""

import time
from collections.abc import Sequence

import psutil

from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.errors import CommandError
from wsd.supervisor.processes.children import Child, Children
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import Abandon, Phase, Replace, SlotState, Start, Stop, Swap

MEMORY_MARGIN = 1.2
"""A new process may need a little more memory than the process that it replaces."""


def fits(available: int, sizes: Sequence[int]) -> bool:
    """Tell whether a second process of each of these sizes fits into the available memory. All in bytes."""
    return sum(sizes) * MEMORY_MARGIN <= available


async def restart_children(
    children: Children, targets: Sequence[Child[Service]], say: Say, *, surge: bool | None = None
) -> None:
    """Replace the processes of all targets.

    `surge` None means a surge if all new processes fit into the memory beside the old ones.

    Raises CommandError when a new process does not become healthy.
    """
    if surge is None:
        available = psutil.virtual_memory().available
        surge = fits(available, [child.usage.rss for child in targets if child.usage is not None])
        if not surge:
            say(f"one by one: {available >> 20} MB of memory are not enough for all new processes beside the old ones")
    await (_surge if surge else _one_by_one)(children, targets, say)


async def start_children(children: Children, targets: Sequence[Child[Service]], say: Say) -> None:
    """Start a process in each target.

    Raises CommandError when one does not become healthy; all of them are then stopped again.
    """
    begun = time.monotonic()
    numbers = {child.slot.name: child.slot.next_number for child in targets}
    for child in targets:
        children.post(child, Start())

    def serves(child: Child[Service]) -> bool:
        failure = child.start_failure
        if failure is not None and failure.incarnation >= numbers[child.slot.name]:
            raise CommandError(failure.reason)
        return child.slot.ready

    try:
        await children.until_each(targets, serves, lambda child: say(f"{child.slot.name} is ready, {_since(begun)}"))
    except CommandError:
        await stop_children(children, targets, lambda text: None, patience=0)
        raise


async def stop_children(
    children: Children, targets: Sequence[Child[Service]], say: Say, *, patience: float | None = None
) -> None:
    """Drain and end the processes of all targets, side by side.

    `patience` is how long they may drain, in seconds; None means as long as each service allows.
    """
    begun = time.monotonic()
    for child in targets:
        children.post(child, Stop(child.service.patience if patience is None else patience))
    await children.until_each(
        targets,
        lambda child: child.slot.state is SlotState.STOPPED and not child.processes,
        lambda child: say(f"{child.slot.name} has drained, {_since(begun)}"),
    )


async def _surge(children: Children, targets: Sequence[Child[Service]], say: Say) -> None:
    """Replace all processes at once.

    Raises CommandError when a new process does not become healthy; all old processes then keep running.
    """
    begun = time.monotonic()
    old = await _replace(children, targets, held=True)
    try:
        for child in targets:
            await _until_healthy(children, child, old[child.slot.name])
            say(f"{child.slot.name}: the new process is healthy, {_since(begun)}")
    except CommandError as exc:
        for child in targets:
            children.post(child, Abandon())
        raise CommandError(f"{exc}; the old processes keep running") from None
    for child in targets:
        children.post(child, Swap())
    await children.until(lambda: all(_serving(child) not in old[child.slot.name] for child in targets))
    say(f"swapped, {_since(begun)}: the old processes drain")
    await _until_drained(children, targets, old, begun, say)


async def _one_by_one(children: Children, targets: Sequence[Child[Service]], say: Say) -> None:
    """Replace the processes one after the other.

    Raises CommandError when a new process does not become healthy; its slot and later ones are then unchanged.
    """
    for child in targets:
        begun = time.monotonic()
        old = await _replace(children, [child], held=False)
        try:
            await _until_healthy(children, child, old[child.slot.name])
        except CommandError as exc:
            raise CommandError(f"{exc}; the old process keeps running") from None
        say(f"{child.slot.name}: the new process serves, {_since(begun)}")
        await _until_drained(children, [child], old, begun, say)


async def _replace(children: Children, targets: Sequence[Child[Service]], *, held: bool) -> dict[str, frozenset[int]]:
    """Start the new processes, and return the numbers of the processes that each slot had before, by its name."""
    numbers = {child.slot.name: child.slot.next_number for child in targets}
    for child in targets:
        children.post(child, Replace(held))
    await children.until(lambda: all(child.slot.next_number > numbers[child.slot.name] for child in targets))
    return {
        child.slot.name: frozenset(i.number for i in child.slot.incarnations if i.number < numbers[child.slot.name])
        for child in targets
    }


async def _until_healthy(children: Children, child: Child[Service], old: frozenset[int]) -> None:
    """Wait until the newest process of a slot is healthy. Raises CommandError when it is not going to be."""
    new = child.slot.next_number - 1

    def settled() -> bool:
        found = next((i for i in child.slot.incarnations if i.number == new), None)
        if found is None:
            if _serving(child) not in {None, *old}:
                return True  # the process has served and ended already, and the slot has replaced it
            failure = child.start_failure
            if failure is not None and failure.incarnation == new:
                raise CommandError(failure.reason)
            raise CommandError(f"{child.slot.name}: the new process ended ({child.slot.last_exit})")
        if child.slot.state is SlotState.STOPPED:
            raise CommandError(f"{child.slot.name} was stopped")
        return found.phase in (Phase.STANDBY, Phase.READY)

    await children.until(settled)


async def _until_drained(
    children: Children, targets: Sequence[Child[Service]], old: dict[str, frozenset[int]], begun: float, say: Say
) -> None:
    await children.until_each(
        targets,
        lambda child: not any(i.number in old[child.slot.name] for i in child.slot.incarnations),
        lambda child: say(f"{child.slot.name}: the old process has drained, {_since(begun)}"),
    )


def _serving(child: Child[Service]) -> int | None:
    current = child.slot.current
    return current.number if current is not None and current.phase is Phase.READY else None


def _since(begun: float) -> str:
    return f"{time.monotonic() - begun:.1f} s"
