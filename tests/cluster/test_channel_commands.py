"""`wsd publish`, `wsd history`, `wsd presence` and `wsd tail`, on a cluster that runs here or elsewhere."""

import http.client
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import WSD, Cluster, clean_env, wsd
from tests.support.ports import unused_port
from tests.support.waiting import until
from wsd import Publisher
from wsd.supervisor.errors import ExitCode

KEY = "sesame"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    config = f'[security]\napi_key = "{KEY}"\n[channels."short"]\nhistory_size = 3\n'
    with Cluster(tmp_path_factory.mktemp("cluster"), "--workers", "2", config=config) as running:
        yield running


def run(cluster: Cluster, *arguments: str, given: bytes = b"", **env: str) -> tuple[int, str, str]:
    """Run a command in the directory of the cluster, with `given` on its standard input."""
    result = subprocess.run(
        [*WSD, *arguments], cwd=cluster.directory, env=clean_env(**env), input=given, capture_output=True, timeout=60
    )
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def data_in(cluster: Cluster, channel: str) -> list[object]:
    code, output, problem = run(cluster, "history", channel, "--limit", "500", "--json")
    assert (code, problem) == (0, "")
    return [message["data"] for message in json.loads(output)["messages"]]


class Tail:
    """A running `wsd tail`, with the lines that it has printed so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []
        self.problems: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=[process.stdout, self.lines]),
            threading.Thread(target=self._read, args=[process.stderr, self.problems]),
        ]
        for thread in self._threads:
            thread.start()

    def end(self, signum: signal.Signals) -> int:
        self.process.send_signal(signum)
        code = self.process.wait(20)
        for thread in self._threads:
            thread.join()
        return code

    @property
    def data(self) -> list[object]:
        return [json.loads(line)["data"] for line in list(self.lines)]

    @staticmethod
    def _read(stream: "Iterator[str]", lines: list[str]) -> None:
        lines.extend(line.rstrip("\n") for line in stream)


@contextmanager
def tail(cluster: Cluster, *arguments: str) -> Iterator[Tail]:
    with subprocess.Popen(
        [*WSD, "tail", *arguments],
        cwd=cluster.directory,
        env=clean_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        following = Tail(process)
        try:
            yield following
        finally:
            if process.poll() is None:
                following.end(signal.SIGKILL)


class Feed:
    """A running `wsd publish CHANNEL -`, which gets the next number as soon as it has published the last one.

    `also` is called with each number, too.
    """

    def __init__(self, process: "subprocess.Popen[str]", also: Callable[[int], object]) -> None:
        self._process = process
        self._also = also
        self._over = threading.Event()
        self._count = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> int:
        """Return how many numbers were published."""
        self._over.set()
        self._thread.join()
        assert self._process.wait(20) == 0
        return self._count

    def _run(self) -> None:
        given, printed = self._process.stdin, self._process.stdout
        assert given is not None
        assert printed is not None
        while not self._over.is_set():
            given.write(f"{self._count}\n")
            given.flush()
            if not printed.readline():
                break
            self._also(self._count)
            self._count += 1
        given.close()


@contextmanager
def feed(cluster: Cluster, channel: str, also: Callable[[int], object]) -> Iterator[Feed]:
    with subprocess.Popen(
        [*WSD, "publish", channel, "-"],
        cwd=cluster.directory,
        env=clean_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        fed = Feed(process, also)
        try:
            yield fed
        finally:
            fed.end()


def test_messages_are_published_without_a_key_and_shown(cluster: Cluster) -> None:
    code, output, problem = run(cluster, "publish", "by-hand", '{"headline": "hi"}')
    assert (code, problem) == (0, "")
    assert re.fullmatch(r"published in by-hand at offset 1 of epoch \w+\n", output)
    assert run(cluster, "publish", "by-hand", "two words")[0] == 0
    assert run(cluster, "publish", "by-hand", "[1]", "--text")[0] == 0
    assert data_in(cluster, "by-hand") == [{"headline": "hi"}, "two words", "[1]"]
    assert run(cluster, "history", "by-hand")[1] == '1  -  {"headline": "hi"}\n2  -  "two words"\n3  -  "[1]"\n'
    assert run(cluster, "history", "by-hand", "--reverse", "--limit", "1")[1] == '3  -  "[1]"\n'
    assert run(cluster, "history", "by-hand", "--since", "1", "--limit", "1")[1] == '2  -  "two words"\n'
    assert run(cluster, "history", "never") == (0, "no messages\n", "")


def test_each_line_of_standard_input_is_a_message(cluster: Cluster) -> None:
    code, output, _ = run(cluster, "publish", "lines", "-", given=b'{"n": 1}\n\n2\r\nthree\nlast')
    assert code == 0
    assert len(output.splitlines()) == 4
    assert data_in(cluster, "lines") == [{"n": 1}, 2, "three", "last"]


def test_a_wrong_line_is_named_and_those_before_it_are_published(cluster: Cluster) -> None:
    code, output, problem = run(cluster, "publish", "slips", "-", given=b"1\n2\n{3\n4\n")
    assert code == 2
    assert len(output.splitlines()) == 2
    assert problem.startswith("wsd: line 3 of standard input begins like JSON, but is none")
    assert data_in(cluster, "slips") == [1, 2]


def test_lines_are_published_as_soon_as_they_come(cluster: Cluster) -> None:
    with subprocess.Popen(
        [*WSD, "publish", "soon", "-"],
        cwd=cluster.directory,
        env=clean_env(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"1\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"published in soon")
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.anyio
async def test_members_of_a_channel_are_listed(cluster: Cluster) -> None:
    assert (await cluster.run("presence", "nobody-here")).endswith("0 members\n")
    ann = await cluster.client("ann")
    await ann.ask(type="subscribe", channel="members")
    header, row, total = (await cluster.run("presence", "members")).splitlines()
    assert header.split() == ["USER", "NAME", "WORKER", "NODE"]
    assert row.split()[:3] == ["ann", "ann", ann.worker_id]
    assert total == "1 member"
    found = json.loads(await cluster.run("presence", "members", "--json"))
    assert (found["channel"], found["count"], found["members"][0]["user_id"]) == ("members", 1, "ann")
    await ann.close()


def test_positions_are_printed_for_programs(cluster: Cluster) -> None:
    code, output, _ = run(cluster, "publish", "positions", "-", "--json", given=b"1\n2\n")
    assert code == 0
    first, second = (json.loads(line) for line in output.splitlines())
    assert first == {**second, "offset": 1}
    assert (second["channel"], second["offset"], second["durable"]) == ("positions", 2, True)


def test_a_key_publishes_once(cluster: Cluster) -> None:
    for _ in range(2):
        assert run(cluster, "publish", "keyed", "1", "--idempotency-key", "nightly")[0] == 0
    assert data_in(cluster, "keyed") == [1]
    assert run(cluster, "publish", "keyed", "-", "--idempotency-key", "nightly")[0] == 2


def test_everybody_has_a_channel(cluster: Cluster) -> None:
    assert run(cluster, "publish", "broadcast", '"for all"')[0] == 0
    assert data_in(cluster, "broadcast") == ["for all"]


def test_a_cluster_elsewhere_needs_its_url_and_its_key(cluster: Cluster, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{cluster.port}"
    result = wsd("publish", "far", "1", cwd=tmp_path, env=clean_env(WSD_URL=url, WSD_API_KEY=KEY))
    assert (result.returncode, result.stderr) == (0, "")
    assert wsd("publish", "far", "2", "--url", url, "--api-key", KEY, cwd=tmp_path).returncode == 0
    assert data_in(cluster, "far") == [1, 2]
    result = wsd("publish", "far", "3", "--url", url, "--api-key", "wrong", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == (
        f"wsd: {url} refuses this API key: set WSD_API_KEY or api_key=... to what security.api_key of the cluster is\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["publish", "no name!", "1"], 2, "a channel name has 1 to 255 characters"),
        (["publish", "a", "[1"], 2, "DATA begins like JSON, but is none"),
        (["publish", "a", "1", "--url", "ws://h"], 2, "must begin with http"),
        (["publish", "a", "1", "--url", "http://h", "--state-dir", "x"], 2, "give one of them"),
        (["publish", "a", "1", "--api-key", "x"], 2, "--api-key needs --url or WSD_URL"),
        (["history", "a", "--limit", "501"], 2, "less than or equal to 500"),
        (["tail", "a", "--last", "501"], 2, "less than or equal to 500"),
        (["history", "a", "--state-dir", "nowhere"], 3, "no cluster runs in"),
        (["tail", "a", "--state-dir", "nowhere"], 3, "no cluster runs in"),
    ],
)
def test_mistakes_are_one_line(cluster: Cluster, arguments: list[str], code: int, problem: str) -> None:
    found, output, error = run(cluster, *arguments)
    assert (found, output) == (code, "")
    assert problem in error
    assert error.count("\n") == 1


def test_a_cluster_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    result = wsd("tail", "a", "--url", url, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"wsd: {url} cannot be reached (Connection refused)")


def test_the_operators_key_is_not_taken_through_nginx(cluster: Cluster) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
    key = cluster.state_dir.operator_key_path.read_text().strip()
    connection.request("GET", "/api/websocket/history/a", headers={"X-WSD-Operator-Key": key})
    assert connection.getresponse().status == 401
    connection.close()


def test_a_channel_is_followed_until_ctrl_c(cluster: Cluster) -> None:
    for number in range(5):
        run(cluster, "publish", "followed", str(number))
    with tail(cluster, "followed", "--last", "2") as following:
        until(lambda: len(following.lines) == 2)
        run(cluster, "publish", "followed", '{"n": 5}')
        until(lambda: len(following.lines) == 3)
        assert following.end(signal.SIGINT) == 0
    assert following.lines == ["4  -  3", "5  -  4", '6  -  {"n": 5}']
    assert following.problems == []


def test_it_ends_with_its_reader(cluster: Cluster) -> None:
    with subprocess.Popen(
        [*WSD, "tail", "unread"],
        cwd=cluster.directory,
        env=clean_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(20) == ExitCode.READER_GONE


def test_no_message_is_lost_or_doubled_while_workers_are_replaced(cluster: Cluster) -> None:
    with (
        Publisher(f"http://127.0.0.1:{cluster.port}", KEY) as publisher,
        feed(cluster, "replaced", lambda number: publisher.publish("through-nginx", number)) as fed,
        tail(cluster, "replaced", "--json", "--last", "500") as following,
    ):
        until(lambda: following.lines)
        assert run(cluster, "restart")[0] == 0
        pid = cluster.worker(1).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: cluster.replaced(1, pid))
        count = fed.end()
        until(lambda: len(following.lines) >= count)
        assert following.data == list(range(count))
        assert following.end(signal.SIGINT) == 0
        newest = [message["data"] for message in publisher.history("through-nginx", limit=500, reverse=True).messages]
        assert newest == list(reversed(range(count)))[:500]
    cluster.wait_until_healthy()


def test_a_channel_is_followed_across_a_stop_and_a_start_of_the_cluster(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as stopped:
        run(stopped, "publish", "room", "1")
        with tail(stopped, "room", "--json") as following:
            until(lambda: following.data == [1])
            assert stopped.wsd("stop").returncode == 0
            stopped.wait()
            stopped.output_path.unlink()
            stopped.launch()
            stopped.wait_until_up()
            run(stopped, "publish", "room", "2")
            until(lambda: following.data == [1, 2])
            assert following.end(signal.SIGINT) == 0
        assert following.problems[0].startswith("wsd: waiting: the cluster in")


def test_what_a_short_history_no_longer_has_is_told(cluster: Cluster) -> None:
    with tail(cluster, "short", "--json") as following:
        until(lambda: following.problems)
        run(cluster, "publish", "short", "-", given=b"".join(b"%d\n" % number for number in range(50)))
        until(lambda: 49 in following.data)
        following.end(signal.SIGINT)
    missed = sum(int(line.split()[2]) for line in following.problems if line.startswith("wsd: missed"))
    assert missed + len(following.lines) == 50
    assert following.data[-1] == 49
