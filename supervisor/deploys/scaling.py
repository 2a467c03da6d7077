"""More workers or fewer, while the cluster runs."""

from typing import TYPE_CHECKING

from wsd.supervisor.config.sections import with_workers
from wsd.supervisor.deploys.operations import Say
from wsd.supervisor.deploys.rollout import start, stop
from wsd.supervisor.errors import CommandError

if TYPE_CHECKING:
    from wsd.supervisor.supervisor import Supervisor


async def scale(supervisor: "Supervisor", wanted: int, say: Say) -> None:
    """To `wanted` workers: new ones serve before nginx knows them, those that go are unknown to it before they drain.

    Raises CommandError when a new worker does not become healthy; then there are as many as before.
    """
    now = len(supervisor.workers)
    if wanted > now:
        await _add(supervisor, range(now + 1, wanted + 1), say)
    leaving = supervisor.workers[wanted:]
    supervisor.configure(with_workers(supervisor.config, wanted))
    await supervisor.update_nginx(say)
    if leaving:
        await stop(supervisor.children, list(reversed(leaving)), say)
        for child in leaving:
            supervisor.children.remove(child)
    supervisor.children.record()
    say(f"{wanted} workers" if wanted != 1 else "1 worker")


async def _add(supervisor: "Supervisor", slots: range, say: Say) -> None:
    children = supervisor.children
    new = [children.add(supervisor.make_worker(slot)) for slot in slots]
    try:
        await start(children, new, say)
    except CommandError as exc:
        for child in new:
            children.remove(child)
        raise CommandError(f"{exc}; there are {slots.start - 1} workers as before") from None
