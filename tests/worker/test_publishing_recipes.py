"""The recipes for publishing from outside in docs/clients.md, as they stand."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ROOT
from tests.support.pages import files
from tests.support.ports import unused_port
from tests.support.waiting import until
from tests.support.worker import worker
from wsd import Publisher
from wsd.client import SyncWsdClient

KEY = "sesame"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listen = f"127.0.0.1:{unused_port()}"
    with worker(tmp_path_factory.mktemp("worker"), listen=listen, api_key=KEY) as serving:
        yield f"http://{listen}"
        serving.check_unharmed()


def environ(url: str) -> dict[str, str]:
    return {**os.environ, "WSD_URL": url, "WSD_API_KEY": KEY}


def write_recipe(directory: Path, name: str) -> None:
    """Write the file `name` of the documentation."""
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(files(ROOT / "docs" / "clients.md")[name])


def run(directory: Path, url: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environ(url), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def data_in(url: str, channel: str) -> list[object]:
    with Publisher(url, KEY) as publisher:
        return [message["data"] for message in publisher.history(channel).messages]


def test_a_cron_job_publishes(url: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, "nightly.py")
    run(tmp_path, url, "nightly.py")
    assert data_in(url, "reports") == [{"title": "Sales of yesterday", "total": 1740}]


CELERY_IN_FOLDERS = """
from tasks import app, order_shipped

app.conf.broker_url = "filesystem://"
app.conf.broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"
}
app.conf.result_backend = "file://results"
"""


def test_a_celery_task_publishes_from_the_processes_of_its_pool(url: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, "tasks.py")
    (tmp_path / "in_folders.py").write_text(CELERY_IN_FOLDERS)
    for name in ("queue", "control", "results"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-m", "celery", "-A", "in_folders", "worker", "--concurrency", "2", "--loglevel", "info"]
    log = tmp_path / "celery.log"
    with log.open("wb") as output:
        celery = subprocess.Popen(
            command, cwd=tmp_path, env=environ(url), stdout=output, stderr=output, start_new_session=True
        )
    try:
        until(lambda: " ready." in log.read_text() or celery.poll() is not None)
        send = "from in_folders import order_shipped\n[order_shipped.delay(number, 'ann') for number in range(10)]"
        with SyncWsdClient(f"{url.replace('http', 'ws')}/ws", "ann") as ann:
            until(lambda: ann.state.name == "open")
            run(tmp_path, url, "-c", send)
            assert {ann.receive(timeout=30)["data"]["order"] for _ in range(10)} == set(range(10))
        until(lambda: log.read_text().count("succeeded in") == 10)
    finally:
        celery.terminate()
        celery.wait(30)
    assert "Traceback" not in log.read_text()


SHOP = """
import django
from django.conf import settings
from django.db import transaction

settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "shop.apps.ShopConfig"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}},
)
django.setup()

from django.contrib.auth.models import User
from django.core.management import call_command

from shop.models import Order

call_command("migrate", run_syncdb=True, verbosity=0)
User.objects.create(pk=7, username="ann")
order = Order.objects.create(user_id=7, state="new")
try:
    with transaction.atomic():
        order.state = "lost"
        order.save()
        raise LookupError
except LookupError:
    order.state = "paid"
    order.save()
"""


def write_shop(directory: Path) -> None:
    for name in ("shop/models.py", "shop/signals.py", "shop/apps.py"):
        write_recipe(directory, name)
    (directory / "shop" / "__init__.py").touch()
    (directory / "run_shop.py").write_text(SHOP)


def test_a_django_signal_publishes_what_is_committed(url: str, tmp_path: Path) -> None:
    write_shop(tmp_path)
    run(tmp_path, url, "run_shop.py")
    assert data_in(url, "orders:7") == [{"order": 1, "state": "new"}, {"order": 1, "state": "paid"}]


def test_a_django_request_goes_on_while_the_cluster_is_away(tmp_path: Path) -> None:
    write_shop(tmp_path)
    run(tmp_path, f"http://127.0.0.1:{unused_port()}", "run_shop.py")
