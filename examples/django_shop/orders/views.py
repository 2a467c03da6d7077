import json
import time

import jwt
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from orders.live import announce
from orders.models import Order


@login_required
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "orders/page.html", {"hub": settings.HUB, "channel": f"user:{request.user.pk}:orders"})


@login_required
def token(request: HttpRequest) -> HttpResponse:
    """Return a token with which the hub knows the user for ten minutes."""
    claims = {"sub": str(request.user.pk), "name": request.user.get_username(), "exp": int(time.time()) + 600}
    return HttpResponse(jwt.encode(claims, settings.JWT_SECRET, "HS256"))


@login_required
def orders(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return JsonResponse({"orders": [order.message() for order in Order.objects.filter(user=request.user)]})
    with transaction.atomic():
        order = Order.objects.create(user=request.user, item=json.loads(request.body)["item"])
        announce(order)
    return JsonResponse(order.message(), status=201)
