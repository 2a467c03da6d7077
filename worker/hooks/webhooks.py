"""Sending the events of a queue as webhooks."""

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.events import EVENT
from wsd.worker.contract.webhook_rules import signing_key, url_problem
from wsd.worker.hooks.backoff import Backoff
from wsd.worker.hooks.event_queue import Entry, EventQueue
from wsd.worker.hooks.http_post import Poster, PostError
from wsd.worker.hooks.signing import Webhook, batch, headers
from wsd.worker.logs import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class WebhookSettings:
    """The URL that events are posted to, and the types of these events."""

    url: str
    key: bytes
    events: Collection[str]
    timeout: float

    @classmethod
    def of(cls, env: WorkerEnv) -> "WebhookSettings | None":
        """Read the settings. None: there is no URL. Raises ValueError for a wrong one."""
        if not env.webhook_url:
            return None
        if problem := url_problem(env.webhook_url):
            raise ValueError(f"webhooks.url {problem}")
        try:
            key = signing_key(env.webhook_secret)
        except ValueError as exc:
            raise ValueError(f"webhooks.secret {exc}") from None
        return cls(env.webhook_url, key, frozenset(env.webhook_events.split(",")), env.webhook_timeout)


class WebhookSender:
    """Posts events in their order, and repeats each POST until the receiver answers with a status from 200 to 299."""

    def __init__(self, queue: EventQueue, settings: WebhookSettings) -> None:
        self.sent = 0
        """Events that the receiver has."""

        self.failed = 0
        """POSTs that failed."""

        self._queue = queue
        self._settings = settings
        self._poster = Poster(settings.url, settings.timeout)
        self._backoff = Backoff(random.random)
        self._posted: Webhook | None = None  # the receiver has it, and it may still be in the queue

    async def handle(self, entries: Sequence[Entry]) -> None:
        """Post the first of some events, and remove them from the queue once the receiver has them."""
        webhook = batch(entries)
        if self._posted is None or self._posted.id != webhook.id:
            await self._deliver(webhook)
            self._posted = webhook
            self.sent += len(webhook.entries)
        await self._queue.remove(webhook.entries)
        self._posted = None

    async def _deliver(self, webhook: Webhook) -> None:
        while problem := await self._try(webhook):
            self.failed += 1
            pause = self._backoff.failed()
            logger.warning("a webhook could not be delivered, next try in %.1f s: %s", pause, problem)
            await asyncio.sleep(pause)
        if self._backoff.succeeded():
            logger.info("webhooks are delivered again", extra=EVENT)

    async def _try(self, webhook: Webhook) -> str:
        """Post a webhook once. Return what went wrong, "" if nothing did."""
        try:
            status = await self._poster.post(webhook.body, headers(webhook, self._settings.key, time.time()))
        except PostError as exc:
            return str(exc)
        return "" if 200 <= status < 300 else f"the receiver answered {status}"
