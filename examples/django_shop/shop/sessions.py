"""Let the hub know users by Django's session cookie."""

import os
from importlib import import_module

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.db import close_old_connections
from django.http import HttpRequest
from starlette.requests import HTTPConnection
from starlette.types import Scope
from wsd import Identity

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()


async def authenticate(scope: Scope) -> Identity | None:
    """Return the user who is logged in, or None to refuse the client. wsd calls it before each connection."""
    key = HTTPConnection(scope).cookies.get(settings.SESSION_COOKIE_NAME)
    return await sync_to_async(user_of)(key)


def user_of(session_key: str | None) -> Identity | None:
    close_old_connections()  # one that the database has closed would be used again
    try:
        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
        user = get_user(request)
        if not user.is_authenticated:
            return None
        ends_at = request.session.get_expiry_date().timestamp()
        return Identity(user.pk, user.get_username(), expires_at=ends_at)
    finally:
        close_old_connections()
