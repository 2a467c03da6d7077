"""Send alerts one after another, and again after a pause when one did not arrive."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from wsd.supervisor.alerts.delivery import DeliveryError, post, run_command
from wsd.supervisor.alerts.ledger import Alert
from wsd.supervisor.config.settings import AlertsConfig

logger = logging.getLogger(__name__)

MAX_WAITING = 100
"""How many deliveries may wait. Further ones are logged and dropped."""

PAUSES_SECONDS = (1.0, 5.0, 30.0)
"""The pauses before an alert that did not arrive is sent again; after the last attempt it is logged and dropped."""

CLOSE_SECONDS = 3.0
"""How long the end of the supervisor waits for alerts."""

Deliver = Callable[[Alert, AlertsConfig], Awaitable[None]]


class Sender:
    """Two queues of alerts, one for the command and one for the URL, so that neither holds up the other."""

    def __init__(self, config: Callable[[], AlertsConfig], children: set[int]) -> None:
        """`config` returns the current settings. `children` holds the pid of a command while it runs."""
        self._config = config
        self._children = children
        self._queues = {name: asyncio.Queue[Alert](MAX_WAITING) for name in ("command", "url")}

    def send(self, alert: Alert) -> None:
        """Queue an alert for each way that is set."""
        for name, queue in self._queues.items():
            if getattr(self._config(), name):
                try:
                    queue.put_nowait(alert)
                except asyncio.QueueFull:
                    logger.warning("alerts.%s: %d alerts wait, dropped: %s", name, MAX_WAITING, alert.text)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._drain("command", self._by_command))
            tasks.create_task(self._drain("url", self._by_url))

    async def flush(self) -> None:
        """Wait until every alert was delivered or dropped, for CLOSE_SECONDS at most."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for queue in self._queues.values():
                    await queue.join()
        except TimeoutError:
            logger.warning("the supervisor ends before all alerts have arrived")

    async def _drain(self, name: str, deliver: Deliver) -> None:
        queue = self._queues[name]
        while True:
            alert = await queue.get()
            try:
                await self._deliver(alert, deliver)
            finally:
                queue.task_done()

    async def _deliver(self, alert: Alert, deliver: Deliver) -> None:
        for pause in PAUSES_SECONDS:
            try:
                await deliver(alert, self._config())
            except DeliveryError as exc:
                logger.warning("an alert did not arrive, next attempt in %g s: %s", pause, exc)
                await asyncio.sleep(pause)
            else:
                return
        try:
            await deliver(alert, self._config())
        except DeliveryError as exc:
            logger.warning("an alert did not arrive and is dropped: %s; it was: %s", exc, alert.text)

    async def _by_command(self, alert: Alert, config: AlertsConfig) -> None:
        if config.command:  # a reload may have removed it
            await run_command(config.command, alert, config.timeout, self._children, logger.info)

    async def _by_url(self, alert: Alert, config: AlertsConfig) -> None:
        if config.url:
            await post(config.url, alert, config.timeout)
