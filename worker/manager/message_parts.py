"""The parts of a manager that carry messages: to members on this worker, to the other workers, and from histories."""

import asyncio

from wsd.worker.backend.backend import Backend
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.channels.channels import Channels
from wsd.worker.channels.options import ChannelRules
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.manager.histories import Histories
from wsd.worker.manager.publisher import Publisher


class MessageParts:
    """The channels of this worker, the way out to their members, publishing and histories."""

    def __init__(
        self, backend: Backend, outlet: Outlet, channel_rules: ChannelRules, *, worker_id: str, timeout: float
    ) -> None:
        """`timeout`: seconds that one question to Redis may take."""
        self.fanout = Fanout(outlet)
        self.channels = Channels(backend.broker, self.fanout, channel_rules, timeout, backend.archive)
        self.publisher = Publisher(backend.broker, self.channels, worker_id)
        self.histories = Histories(self.channels, backend.receipts, outlet, timeout)
        self._receipts = backend.receipts

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the background work."""
        tasks.create_task(self.channels.run(), name="channels")
        tasks.create_task(run_repeatedly(self._receipts.run, "receipts"), name="receipts")
