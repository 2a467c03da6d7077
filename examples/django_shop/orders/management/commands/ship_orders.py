"""Ship orders, one after the other, in a process of its own."""

import time

from django.core.management.base import BaseCommand
from django.db import transaction

from orders.live import announce
from orders.models import Order


class Command(BaseCommand):
    def handle(self, **options: object) -> None:
        while True:
            if not ship_one():
                time.sleep(0.2)


def ship_one() -> bool:
    """Ship the oldest new order, and return whether there was one."""
    with transaction.atomic():
        order = Order.objects.select_for_update().filter(state="new").order_by("pk").first()
        if order is None:
            return False
        order.state, order.revision = "shipped", order.revision + 1
        order.save()
        announce(order)
    return True
