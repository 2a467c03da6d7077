from django.contrib.auth.models import User
from django.db import models


class Order(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    item = models.CharField(max_length=100)
    state = models.CharField(max_length=20, default="new")
    revision = models.IntegerField(default=1)

    def message(self) -> dict[str, object]:
        """Return what browsers are told. Of two messages about an order, the one with the higher revision is newer."""
        return {"id": self.pk, "item": self.item, "state": self.state, "revision": self.revision}
