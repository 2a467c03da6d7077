"""Standard streams that are closed, cannot take a text, or that nobody reads; and the foreground as JSON."""

import fcntl
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apps import copy_app
from tests.support.cluster import WSD, Cluster
from tests.support.waiting import until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose log has Japanese, and more than a pipe holds."""
    directory = tmp_path_factory.mktemp("cluster")
    app = copy_app("speaking", directory)
    with Cluster(directory, "--workers", "1", "--no-nginx", "--app", app) as cluster:
        assert cluster.get("/say?lines=200")[0] == 200
        until(lambda: "日本語" in cluster.log("worker-1") and "a word" in cluster.log("worker-1"), "what was said")
        yield cluster


def shell(command: str, cluster: Cluster, **env: str) -> subprocess.CompletedProcess[bytes]:
    program = " ".join(WSD)
    script = f'set -o pipefail; wsd() {{ {program} "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", script], cwd=cluster.directory, env={**cluster.env, **env}, capture_output=True, timeout=60
    )


def descriptors(pid: int) -> dict[int, str]:
    """Return what the standard descriptors of a process are."""
    return {fd: str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_commands_with_closed_streams_do_what_they_do(cluster: Cluster, closed: str) -> None:
    for command, code in (("status", 0), ("restart 9", 1)):
        result = shell(f"wsd {command} {closed}", cluster)
        assert result.returncode == code, (command, result)
        assert b"Traceback" not in result.stderr
        if ">&-" in closed.replace("2>&-", ""):
            assert result.stdout == b""
        elif code == 0:
            assert result.stdout


@pytest.mark.parametrize("how", ["--detach <&- >&- 2>&-", "<&- >&- 2>&- &"])
def test_a_start_with_closed_streams_is_a_whole_cluster(tmp_path: Path, how: str) -> None:
    cluster = Cluster(tmp_path, "--workers", "1", "--no-nginx")
    try:
        started = shell(f"wsd start {' '.join(cluster.arguments)} {how}", cluster)
        assert started.returncode == 0, started
        until(cluster.is_healthy, "a healthy cluster")
        status = cluster.status()
        for process in (status.supervisor, *status.workers, status.valkey):
            assert process is not None
            assert process.pid is not None
            found = descriptors(process.pid)
            assert not any("socket" in target or "lock" in target for target in found.values()), found
            assert found[0] == "/dev/null"
        assert cluster.get("/health")[0] == 200
        stopped = shell("wsd stop --timeout 0 <&- >&- 2>&-", cluster)
        assert stopped.returncode == 0, stopped
        assert cluster.state_dir.lock.holder() is None
    finally:
        cluster.kill()


@pytest.mark.parametrize(
    "locale",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_text_that_the_locale_does_not_have_ends_no_command(cluster: Cluster, locale: dict[str, str]) -> None:
    result = shell("wsd logs -n 1000", cluster, **locale)
    assert result.returncode == 0, result.stderr[-500:]
    assert result.stderr == b""
    assert b"a word" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize("command", ["logs -n 1000", "logs -f -n 1000", "status"])
def test_a_reader_that_is_gone_ends_a_command_quietly(cluster: Cluster, command: str) -> None:
    result = shell(f"wsd {command} | true", cluster)
    assert result.returncode == 141, result
    assert result.stderr == b""


def test_a_command_that_waits_ends_with_its_reader(cluster: Cluster) -> None:
    read_end, write_end = os.pipe()
    command = [*WSD, "logs", "-f", "-n", "1"]
    with subprocess.Popen(command, cwd=cluster.directory, env=cluster.env, stdout=write_end) as process:
        os.close(write_end)
        assert os.read(read_end, 65536)
        os.close(read_end)
        assert process.wait(20) == 141


@pytest.mark.parametrize("command", ["status", "logs"])
def test_an_output_that_cannot_be_written_is_one_line(cluster: Cluster, command: str) -> None:
    result = shell(f"wsd {command} >/dev/full", cluster)
    assert result.returncode == 1
    assert result.stderr == b"wsd: cannot write the output: No space left on device\n"


def lines_of(output: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in output.splitlines()]


def test_with_json_every_line_of_the_foreground_is_an_object(tmp_path: Path) -> None:
    app = copy_app("speaking", tmp_path)
    arguments = ("--workers", "1", "--app", app)
    with Cluster(tmp_path, *arguments, config='[log]\nformat = "json"\n') as cluster:
        cluster.get("/say")
        cluster.get("/fail")
        assert cluster.wsd("scale", "2").returncode == 0
        wanted = ("a word", "on purpose", '"process": "worker-2", "stream"')
        until(lambda: all(text in cluster.output for text in wanted), "what was said")
    lines = lines_of(cluster.output)
    for line in lines:
        assert {"at", "level", "message", "process", "stream"} <= line.keys(), line
    told = [line["message"] for line in lines if line["stream"] == "console"]
    assert "wsd is up" in told
    assert not any("token=" in text for text in told)
    said = {line["message"]: line for line in lines if line["process"] == "worker-1"}
    assert said["日本語 résumé"]["stream"] == "output"
    assert (said["a word"]["stream"], said["a word"]["level"], said["a word"]["logger"]) == ("log", "error", "chat")
    assert {"supervisor", "worker-1", "valkey"} <= {line["process"] for line in lines}


def test_a_foreground_that_nobody_reads_serves_on(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "1", "--no-nginx", "--app", copy_app("speaking", tmp_path))
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    try:
        cluster.process = subprocess.Popen(
            cluster.command, cwd=tmp_path, env=cluster.env, stdin=subprocess.DEVNULL, stdout=write_end
        )
        os.close(write_end)
        until(cluster.is_healthy, "a healthy cluster")
        # Far more than the pipe holds, in lines and without any: nobody reads.
        cluster.get("/say?lines=3000&bytes=1500000")
        before = cluster.worker(1).pid
        assert cluster.wsd("restart").returncode == 0
        until(lambda: cluster.replaced(1, before), "another process")
        assert cluster.get("/say")[0] == 200
        # Read again, and then never more.
        with os.fdopen(read_end, "rb") as reader:
            read_end = -1
            shown = itertools.islice((line for line in reader if line.rstrip().endswith(b"y" * 1000)), 2999)
            assert sum(1 for _ in shown) == 2999  # the first is the end of the line that was cut
        assert cluster.get("/say")[0] == 200
        assert cluster.is_healthy()
        cluster.signal(signal.SIGTERM)
        assert cluster.wait() == 0
    finally:
        if read_end >= 0:
            os.close(read_end)
        cluster.kill()
