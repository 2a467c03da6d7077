"""The guide to Django: what it adds to the shop of the examples."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import wsd
from tests.support.cluster import ROOT, Cluster, clean_env
from tests.support.pages import blocks, files
from tests.support.ports import unused_port
from tests.support.postgres import postgres
from tests.support.relay import SQL
from tests.support.waiting import long_run, until
from wsd.client import RequestError, SyncWsdClient

PAGE = ROOT / "docs" / "guides" / "django.md"
KEY = "0123456789abcdef0123456789abcdef"
ADDED = ("orders/signals.py", "orders/logout.py", "orders/apps.py", "orders/tests.py")
"""The files of the page that the example does not have."""

Manage = Callable[..., str]

CREATE_AND_LOG_IN = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

ann = User.objects.create_user("ann", password="sesame")
session = SessionStore()
session[SESSION_KEY] = str(ann.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = ann.get_session_auth_hash()
session.save()
print(session.session_key)
"""

SAVE = """
from django.contrib.auth.models import User
from django.db import transaction

from orders.models import Order

try:
    with transaction.atomic():
        Order.objects.create(user=User.objects.get(), item="lost")
        raise LookupError
except LookupError:
    Order.objects.create(user=User.objects.get(), item="tea")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Copy the shop of the examples, and add what the page adds."""
    shop = shutil.copytree(ROOT / "examples" / "django_shop", tmp_path / "shop")
    for name in ADDED:
        (shop / name).write_text(files(PAGE)[name], "utf-8")
    return shop


@pytest.fixture
def port() -> int:
    return unused_port()


@pytest.fixture
def env(port: int) -> dict[str, str]:
    """Return the environment of the page, in which sessions take the place of tokens."""
    [settings] = [block.text for block in blocks(PAGE) if "WSD_SECURITY_AUTHENTICATE" in block.text]
    [line] = [line for line in settings.splitlines() if line.startswith("export")]
    name, _, value = line.removeprefix("export ").partition("=")
    url = f"http://127.0.0.1:{port}"
    return clean_env(**{name: value}, WSD_SECURITY_API_KEY=KEY, WSD_API_KEY=KEY, WSD_URL=url)


@pytest.fixture
def manage(shop: Path, env: dict[str, str]) -> Manage:
    def run(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        result = subprocess.run(command, cwd=shop, env=env, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    return run


def test_sessions_take_the_place_of_tokens_and_signals_that_of_calls(
    shop: Path, port: int, env: dict[str, str], manage: Manage
) -> None:
    manage("migrate", "--verbosity", "0")
    session = manage("shell", "-c", CREATE_AND_LOG_IN).split()[-1]
    with Cluster(shop, "shop.asgi:application", "--workers", "2", env=env, port=port):
        hub = f"ws://127.0.0.1:{port}/live/ws"
        with SyncWsdClient(hub) as stranger, pytest.raises(RequestError, match="closed"):
            stranger.subscribe("user:1:orders")
        with SyncWsdClient(hub, additional_headers={"Cookie": f"sessionid={session}"}) as ann:
            ann.subscribe("user:1:orders")
            with pytest.raises(RequestError, match="you may not subscribe to user:2:orders"):
                ann.subscribe("user:2:orders")
            manage("shell", "-c", SAVE)
            assert ann.receive(timeout=10)["data"]["item"] == "tea", "what was rolled back is not published"

            cookies = {"Cookie": f"sessionid={session}; csrftoken={KEY}", "X-CSRFToken": KEY}
            with urlopen(Request(f"http://localhost:{port}/accounts/logout/", b"", cookies), timeout=10):
                pass
            until(lambda: ann.state.name == "closed", "the end of the connection after the logout")
            assert ann.state.code == 4500


def test_the_tests_of_the_page_pass(shop: Path, manage: Manage) -> None:
    (shop / "orders" / "apps.py").unlink()  # the signal would be a second one who announces the order
    assert "Ran 1 test" in manage("test", "orders")


USE_POSTGRES = """
DATABASES["default"] = {{
    "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": {port}, "USER": "owner", "NAME": "{name}"
}}
"""

COMMIT_AND_ROLL_BACK = """
from django.contrib.auth.models import User
from django.db import transaction

from orders import outbox_announce
from orders.models import Order

ann = User.objects.create_user("ann")
try:
    with transaction.atomic():
        outbox_announce.announce(Order.objects.create(user=ann, item="lost"))
        raise LookupError
except LookupError:
    with transaction.atomic():
        outbox_announce.announce(Order.objects.create(user=ann, item="tea"))
"""


@long_run
def test_what_the_outbox_of_the_page_holds_is_published(
    shop: Path, port: int, env: dict[str, str], manage: Manage
) -> None:
    pytest.importorskip("psycopg", reason="psycopg is in the extra dev")
    (shop / "orders" / "apps.py").unlink()
    (shop / "orders" / "outbox.py").write_text(files(PAGE)["orders/outbox.py"])
    [announce] = [block.text for block in blocks(PAGE) if not block.title and "OutboxMessage" in block.text]
    (shop / "orders" / "outbox_announce.py").write_text(announce)
    with postgres() as rows:
        url = rows.new_database()
        rows.psql(SQL, url)
        settings = USE_POSTGRES.format(port=rows.port, name=url.rpartition("/")[2])
        with (shop / "shop" / "settings.py").open("a") as file:
            file.write(settings)
        manage("migrate", "--verbosity", "0")
        env |= {"WSD_POSTGRES_URL": url.replace("owner", "wsd_relay")}
        with Cluster(shop, "shop.asgi:application", "--workers", "1", env=env, port=port):
            manage("shell", "-c", COMMIT_AND_ROLL_BACK)
            with wsd.Publisher(env["WSD_URL"], KEY) as publisher:
                found = until(lambda: publisher.history("user:1:orders").messages, "the message")
        assert [message["data"]["item"] for message in found] == ["tea"]
