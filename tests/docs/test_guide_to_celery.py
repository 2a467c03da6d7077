"""The guide to Celery: its application, its page in a browser, and its tasks in processes of Celery."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.browser import open_tab
from tests.support.cluster import Cluster, clean_env
from tests.support.pages import ROOT, write_files
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import until

PAGE = ROOT / "docs" / "guides" / "celery.md"
KEY = "0123456789abcdef0123456789abcdef"


@contextmanager
def celery(directory: Path, env: dict[str, str]) -> Iterator[Path]:
    """Run Celery with the tasks of the page, and yield the file with what it logs."""
    log = directory / "celery.txt"
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "info"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, env=env, stdout=output, stderr=output)
    try:
        until(lambda: " ready." in log.read_text() or process.poll() is not None, "Celery")
        yield log
    finally:
        process.terminate()
        process.wait(30)


def test_a_page_shows_how_far_a_task_is(tmp_path: Path, browser: int) -> None:
    write_files(PAGE, tmp_path)
    with valkey(tmp_path / "broker", unused_port()) as broker:
        env = clean_env(WSD_SECURITY_API_KEY=KEY, BROKER_URL=broker)
        with Cluster(tmp_path, "web:app", "--workers", "2", env=env) as cluster:
            env |= {"WSD_API_KEY": KEY, "WSD_URL": f"http://127.0.0.1:{cluster.port}"}
            with celery(tmp_path, env) as log, open_tab(browser, f"http://127.0.0.1:{cluster.port}/") as tab:
                until(lambda: tab.run("!!globalThis.start?.onclick"), "the page")
                tab.run("start.click()")
                until(lambda: 0 < float(tab.run("progress.value")) < 100, "a page that sees the report grow")
                tab.run("location.reload()")
                until(lambda: float(tab.run("globalThis.progress?.value ?? 0")) > 0, "the same, loaded again")
                until(lambda: tab.run("globalThis.result?.hidden === false"), "the result")
                assert tab.run("new URL(result.href).pathname") == tab.run("`/reports/${location.hash.slice(1)}.pdf`")
                assert tab.run("progress.value") == 100
                until(lambda: log.read_text().count("succeeded in") == 2)
            assert "Traceback" not in log.read_text()
