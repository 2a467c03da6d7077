"""The dashboard of docs/examples.md and the shop of docs/guides/django.md, as they stand there, in a browser."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import FAST_HEALTH, ROOT, Cluster, clean_env
from tests.support.ports import unused_port
from tests.support.waiting import until
from tests.support.web_server import web_server

EXAMPLES = ROOT / "examples"
SHOWN = re.findall(
    r"^`examples/(.+?)`:\n\n```\w+ title=.*?\n(.*?)^```",
    "".join((ROOT / "docs" / page).read_text("utf-8") for page in ("examples.md", "guides/django.md")),
    re.DOTALL | re.MULTILINE,
)
KEY = "0123456789abcdef0123456789abcdef"

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with chromium(tmp_path_factory.mktemp("browser")) as port:
        yield port


@contextmanager
def running(*arguments: str, cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """Run a Python program during the block."""
    with (cwd / "programs.txt").open("ab") as output:
        process = subprocess.Popen([sys.executable, "-u", *arguments], cwd=cwd, env=env, stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, (cwd / "programs.txt").read_text()
    finally:
        process.terminate()
        process.wait(10)


def change(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(("name", "shown"), SHOWN, ids=[name for name, _ in SHOWN])
def test_what_the_document_shows_is_the_example(name: str, shown: str) -> None:
    assert shown == (EXAMPLES / name).read_text("utf-8")


def test_the_document_shows_the_examples() -> None:
    assert len(SHOWN) == 11


def numbers(tab: Tab) -> list[int]:
    return list(json.loads(tab.run("JSON.stringify([...prices.rows].map((row) => +row.cells[0].textContent))")))


@needs_browser
def test_the_dashboard_shows_every_value_in_order_through_an_outage_of_redis(tmp_path: Path, browser: int) -> None:
    shutil.copytree(EXAMPLES / "dashboard", tmp_path, dirs_exist_ok=True)
    env = {**clean_env(), "WSD_SECURITY_API_KEY": KEY, "WSD_API_KEY": KEY}
    with ExitStack() as stack:
        site = stack.enter_context(web_server(tmp_path))
        change(tmp_path / "wsd.toml", "8080", str(site))
        config = (tmp_path / "wsd.toml").read_text() + FAST_HEALTH
        cluster = stack.enter_context(Cluster(tmp_path, "--workers", "2", config=config, env=env))
        change(tmp_path / "prices.html", "127.0.0.1:8000", f"127.0.0.1:{cluster.port}")
        env["WSD_URL"] = f"http://127.0.0.1:{cluster.port}"
        stack.enter_context(running("prices.py", cwd=tmp_path, env=env))

        def page() -> Tab:
            return stack.enter_context(open_tab(browser, f"http://localhost:{site}/prices.html"))

        def shows_values(tab: Tab) -> bool:
            return bool(tab.run("globalThis.prices?.rows.length > 3"))

        before = [page(), page()]
        until(lambda: all(shows_values(tab) for tab in before), "values before the outage")
        valkey = cluster.status().valkey
        assert valkey is not None
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGKILL)  # workers keep messages until they have reached its successor
        meanwhile = page()
        until(lambda: cluster.status().valkey != valkey and cluster.is_healthy(), "Redis is back")
        afterwards = page()
        pages = [*before, meanwhile, afterwards]
        until(lambda: all(shows_values(tab) for tab in pages), "values after the outage")
        last = max(numbers(tab)[-1] for tab in pages)
        until(lambda: all(numbers(tab)[-1] >= last for tab in pages), "the same values on all pages")
        for tab in pages:
            shown = numbers(tab)
            assert shown == list(range(shown[0], shown[0] + len(shown))), "each once, and in order"


@needs_browser
def test_the_shop_tells_browsers_of_orders_beside_django_and_within_wsd(tmp_path: Path, browser: int) -> None:
    shop = shutil.copytree(EXAMPLES / "django_shop", tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    django_port, port = unused_port(), unused_port()
    env = {**clean_env(), "WSD_SECURITY_JWT_SECRET": KEY, "WSD_SECURITY_API_KEY": f"{KEY}-for-programs"}
    env |= {"WSD_API_KEY": env["WSD_SECURITY_API_KEY"], "WSD_URL": f"http://127.0.0.1:{port}", "SHOP_HUB": "/live"}
    change(shop / "wsd.toml", "8080", str(django_port))
    change(shop / "wsd.toml", "localhost:8000", f"localhost:{port}")
    prepare = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_user("ann", password="sesame")
"""
    subprocess.run([sys.executable, "manage.py", "shell", "-c", prepare], cwd=shop, env=env, check=True)
    with (
        Cluster(shop, "--workers", "2", "--app", "shop.asgi:application", env=env, port=port),
        running("manage.py", "ship_orders", cwd=shop, env=env),
        running(
            "manage.py",
            "runserver",
            "--noreload",
            str(django_port),
            cwd=shop,
            env={**env, "SHOP_HUB": f"{env['WSD_URL']}/live"},
        ),
        open_tab(browser, "about:blank") as inside,
        open_tab(browser, "about:blank") as beside,
    ):
        until(lambda: "Quit the server" in (shop / "programs.txt").read_text())
        inside.go(f"http://localhost:{port}/")
        until(lambda: inside.run("!!document.querySelector('[name=password]')"), "the login")
        inside.run("document.forms[0].username.value = 'ann'; document.forms[0].password.value = 'sesame'")
        inside.run("document.forms[0].requestSubmit()")
        until(lambda: inside.text("#state").startswith("open"), "a page that listens")
        beside.go(f"http://localhost:{django_port}/")  # it has the same cookies, which know no ports
        until(lambda: beside.text("#state").startswith("open"), "a page that listens")
        for tab, item in ((inside, "tea"), (beside, "milk")):
            tab.run(f"item.value = {item!r}; form.requestSubmit()")
            until(lambda: f"{item}: shipped" in inside.text("#orders"))  # noqa: B023
            until(lambda: f"{item}: shipped" in beside.text("#orders"))  # noqa: B023
