"""The control server, with a cluster of which nothing runs yet."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.loading import load
from wsd.supervisor.control.server import ControlServer
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.errors import StartError
from wsd.supervisor.services.programs import Programs
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState
from wsd.supervisor.unix_http import request
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER

pytestmark = pytest.mark.anyio


class Lifetime:
    """Notes what requests ask for."""

    def __init__(self) -> None:
        self.patience: list[float | None] = []

    def stop(self, patience: float | None) -> float:
        self.patience.append(patience)
        return 7.0

    def hand_over(self) -> None:
        raise AssertionError("nobody has asked for that")


@contextmanager
def idle_cluster(directory: Path) -> Iterator[Cluster]:
    state_dir = StateDir(directory)
    state_dir.acquire()
    state_dir.create()
    loaded = load({}, {}, None, directory)
    try:
        yield Cluster(loaded, state_dir, SavedState(), Programs(), umask=0o022)
    finally:
        state_dir.clean()
        state_dir.lock.release()


async def ask(cluster: Cluster, method: str, target: str, body: object = None) -> tuple[int, dict[str, object]]:
    headers = {OPERATOR_KEY_HEADER: cluster.state_dir.operator_key()}
    path = cluster.state_dir.control_socket
    status, answer = await asyncio.to_thread(request, path, method, target, 5, body, headers=headers)
    return status, json.loads(answer)


async def test_a_cluster_that_has_not_come_up_says_so_and_can_be_stopped(tmp_path: Path) -> None:
    lifetime = Lifetime()
    with idle_cluster(tmp_path) as cluster:
        async with ControlServer(cluster, Operations(), lifetime):
            _, status = await ask(cluster, "GET", "/v1/status")
            assert (status["state"], status["workers"]) == ("starting", [])
            refused, answer = await ask(cluster, "POST", "/v1/scale", {"workers": 3})
            assert refused == 400
            assert "starting or stopping" in str(answer["error"])
            assert await ask(cluster, "POST", "/v1/stop", {"timeout": 2}) == (202, {"seconds": 7.0})
        assert lifetime.patience == [2]


async def test_a_socket_that_was_removed_is_bound_anew(tmp_path: Path) -> None:
    with idle_cluster(tmp_path) as cluster:
        async with ControlServer(cluster, Operations(), Lifetime()) as control:
            assert not await control.restore()
            cluster.state_dir.control_socket.unlink()
            assert await control.restore()
            assert (await ask(cluster, "GET", "/v1/status"))[0] == 200


async def test_a_socket_that_cannot_be_opened_is_a_start_error(tmp_path: Path) -> None:
    with idle_cluster(tmp_path) as cluster:
        cluster.state_dir.control_socket.mkdir()
        with pytest.raises(StartError, match=r"cannot open the control socket .*: Is a directory"):
            async with ControlServer(cluster, Operations(), Lifetime()):
                pass
        cluster.state_dir.control_socket.rmdir()
