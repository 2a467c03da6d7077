"""The processes that the previous supervisor left running."""

import signal
from dataclasses import replace

from wsd.supervisor.processes.orphans import end_orphans
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.processes.service import Command, Service
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState


def take_stock(state_dir: StateDir) -> SavedState:
    """Return what still runs of a supervisor that died or handed over, and end the orphans of its dead processes."""
    saved = state_dir.read_state()
    alive = tuple(record for record in saved.processes if is_alive(record, state_dir.root))
    for record in saved.processes:
        if record not in alive:
            signum = NginxService.orphan_signal if record.name == NginxService.name else signal.SIGKILL
            end_orphans(record, signum, state_dir.root)
    return replace(saved, processes=alive) if alive else SavedState()


class LeftoverService(Service):
    """A program of the previous supervisor that is not wanted any more, and only has to end."""

    def __init__(self, name: str, patience: float) -> None:
        """`patience` is how long a worker may drain, in seconds."""
        self.name = name
        self.patience = patience
        if name == NginxService.name:
            self.patience = NginxService.patience
            self.signals = NginxService.signals
            self.orphan_signal = NginxService.orphan_signal

    def command(self, incarnation: int) -> Command:
        raise OSError(f"{self.name} is not wanted any more")

    async def is_ready(self, incarnation: int) -> bool:
        return True
