"""A deployment points a symbolic link at the next release; workers that start later are of that release."""

import os
import shutil
import signal
from pathlib import Path

from tests.support.apps import copy_app
from tests.support.cluster import Cluster, clean_env
from tests.support.waiting import until


def release(directory: Path, version: int) -> None:
    made = directory / "releases" / str(version)
    made.mkdir(parents=True)
    app = copy_app("release", made, f"VERSION = {version}")
    (made / "later.py").write_text(f"VERSION = {version}")
    (made / "wsd.toml").write_text(f"[cluster]\nstate_dir = '../../.wsd'\napp = '{app}'\nworkers = {version}\n")


def point(link: Path, version: int) -> None:
    """Replace the link at once, as `ln -sfn` does."""
    new = link.with_name("new")
    new.symlink_to(f"releases/{version}")
    new.rename(link)


def test_a_restart_serves_the_release_that_the_link_leads_to(tmp_path: Path) -> None:
    release(tmp_path, 1)
    release(tmp_path, 2)
    current = tmp_path / "current"
    point(current, 1)
    cluster = Cluster(current, env=clean_env(PWD=str(current)))
    cluster.output_path = tmp_path / "output.txt"
    cluster.state_dir = type(cluster.state_dir)(tmp_path / ".wsd")
    with cluster:
        assert cluster.get("/") == (200, b"1 1")
        point(current, 2)
        shutil.rmtree(tmp_path / "releases" / "1")
        # A worker that dies is of the new release, too.
        pid = cluster.worker(1).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: cluster.replaced(1, pid))
        assert cluster.get("/") == (200, b"2 2")
        # So is the configuration.
        assert cluster.wsd("reload").returncode == 0
        assert len(cluster.status().workers) == 2
        assert cluster.wsd("upgrade").returncode == 0
        assert cluster.wsd("restart").returncode == 0
        assert cluster.get("/") == (200, b"2 2")
        # A directory that is missing is said by its name.
        current.unlink()
        failed = cluster.wsd_elsewhere(tmp_path, "restart", "1")
        assert failed.returncode == 1
        assert f"cannot be run: the directory {current} is missing" in failed.stderr
        failed = cluster.wsd_elsewhere(tmp_path, "upgrade")
        assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
        assert str(current) in failed.stderr
        assert cluster.get("/") == (200, b"2 2")
