"""The readers of a worker's event log: the functions of the application, and the sender of webhooks."""

import asyncio

from wsd.worker.background.containment import run_repeatedly
from wsd.worker.hooks.callers import FunctionCaller
from wsd.worker.hooks.delivery import Delivery
from wsd.worker.hooks.event_queue import ReaderName, Wanted
from wsd.worker.hooks.functions import HookFunctions
from wsd.worker.hooks.memory_events import MemoryEventLog
from wsd.worker.hooks.redis_events import RedisEventLog
from wsd.worker.hooks.webhooks import WebhookSender, WebhookSettings


class EventReaders:
    """The readers of this worker. Without functions and webhooks nothing runs, and no events are written."""

    def __init__(
        self, log: RedisEventLog | MemoryEventLog, functions: HookFunctions, webhooks: WebhookSettings | None
    ) -> None:
        self.deliveries: dict[ReaderName, Delivery] = {}
        self.sender: WebhookSender | None = None
        self._log = log
        self._functions = functions
        self._webhooks = webhooks

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to write and to read the events that are wanted. The application has its functions by now."""
        functions = self._functions.event_types
        self._log.wanted = Wanted(functions, self._webhooks.events if self._webhooks is not None else ())
        if functions:
            queue = self._log.queue("functions")
            self.deliveries["functions"] = Delivery("hooks", queue, FunctionCaller(queue, self._functions).handle)
        if self._webhooks is not None:
            queue = self._log.queue("webhooks")
            self.sender = WebhookSender(queue, self._webhooks)
            self.deliveries["webhooks"] = Delivery("webhooks", queue, self.sender.handle)
        for name, delivery in self.deliveries.items():
            tasks.create_task(run_repeatedly(delivery.run, f"events for {name}"), name=f"events-for-{name}")
