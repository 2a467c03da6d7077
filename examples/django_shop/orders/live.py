"""Tell browsers about orders."""

import wsd
from django.db import transaction

from orders.models import Order

cluster = wsd.Cluster()
publisher = wsd.Publisher(timeout=1, retry_for=2)  # WSD_URL and WSD_API_KEY say where


def announce(order: Order) -> None:
    """Publish an order to the browsers of its user, once the transaction is committed."""
    channel, message = f"user:{order.user_id}:orders", order.message()
    transaction.on_commit(lambda: publish(channel, message), robust=True)


def publish(channel: str, message: dict[str, object]) -> None:
    try:
        cluster.sync.publish(channel, message)
    except wsd.WorkerNotRunningError:  # not within `wsd start`: under another server, or in a management command
        publisher.publish(channel, message)
