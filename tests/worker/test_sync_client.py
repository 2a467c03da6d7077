"""SyncWsdClient, against real workers."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT
from tests.support.ports import unused_port
from tests.support.waiting import until
from tests.support.worker import worker
from wsd.client import Left, Message, RequestError, State, SyncWsdClient, User, Waiting

CHANNELS = json.dumps(
    {"*": {"history_size": 1000}, "seen:*": {"presence": "events"}, "read:*": {"history_size": 10, "receipts": True}}
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listen = f"127.0.0.1:{unused_port()}"
    with worker(tmp_path_factory.mktemp("worker"), listen=listen, channels=CHANNELS) as serving:
        yield f"ws://{listen}/ws"
        serving.check_unharmed()


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("wsd client")] == []


def take(client: SyncWsdClient, count: int) -> list[Any]:
    return [client.receive(timeout=20)["data"] for _ in range(count)]


def test_messages_go_to_the_function_of_their_channel_or_are_received(url: str) -> None:
    heard: list[tuple[str, Any]] = []

    def note(message: Message) -> None:
        heard.append((threading.current_thread().name, message["data"]))

    with SyncWsdClient(url, "ann", "Ann") as client:
        joined = client.subscribe("room:1", note)
        assert joined.position is not None
        client.subscribe("room:2")
        assert client.user == User("ann", "Ann")
        assert client.state == State("open")
        assert client.waiting == Waiting(0, 0)
        client.publish("room:1", 1)
        client.publish("room:2", 2)
        client.direct("ann", 3)
        client.broadcast(4)
        assert take(client, 3) == [2, 3, 4]
        assert heard == [(threading.current_thread().name, 1)]
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.05)
        client.publish("room:2", 5)
        for message in client:
            assert message["data"] == 5
            break
        client.unsubscribe("room:1")
        client.publish("room:1", 6)
        with pytest.raises(TimeoutError):
            client.receive(timeout=0)
        assert len(heard) == 1


def test_what_is_asked_comes_back_in_records(url: str) -> None:
    with SyncWsdClient(url, "ann", "Ann") as client:
        client.subscribe("records")
        acks = [client.publish("records", number) for number in range(3)]
        assert [message["data"] for message in client.history("records", since=1).messages] == [1, 2]
        assert [member.username for member in client.presence("records").members] == ["Ann"]
        assert client.subscribe("seen:1", on_presence=print).recovered is None
        with SyncWsdClient(url, "bob") as bob:
            bob.subscribe("read:1")
            acks = [client.publish("read:1", number) for number in range(3)]
            assert take(bob, 2) == [0, 1]
            bob.mark_read("read:1")
            until(lambda: client.delivered("read:1", "bob", acks[1]).delivered)
            assert not client.delivered("read:1", "bob", acks[2]).delivered
            bob.mark_read("read:1", acks[2].position)
            until(lambda: client.delivered("read:1", "bob", acks[2]).delivered)


def test_any_thread_may_call(url: str) -> None:
    def publish(number: int) -> int | None:
        return client.publish("threads", number).offset

    with SyncWsdClient(url, "ann") as client, ThreadPoolExecutor(8) as pool:
        client.subscribe("threads")
        received = [pool.submit(take, client, 50) for _ in range(2)]
        assert sorted(pool.map(publish, range(100)), key=int) == list(range(1, 101))  # type: ignore[arg-type]
        found = [number for each in received for number in each.result(20)]
        assert sorted(found) == list(range(100))


def test_a_slow_program_receives_every_message_in_order(url: str) -> None:
    with SyncWsdClient(url, "ann", max_inbox=10) as client:
        client.subscribe("slow")
        with pytest.raises(TimeoutError):
            client.receive(timeout=0)
        first = client.welcome
        with SyncWsdClient(url, "source") as source:
            for number in range(500):
                source.publish("slow", number)
        assert take(client, 500) == list(range(500))
        assert client.welcome is not first


def test_a_program_that_only_publishes_keeps_the_newest_messages(url: str) -> None:
    with SyncWsdClient(url, "ann", max_inbox=20) as client:
        client.subscribe("unread")
        for number in range(100):
            client.publish("unread", number)
        assert take(client, 20) == list(range(80, 100))
        assert client.welcome["resumed"] is False


def test_a_function_may_call_the_client_and_what_it_raises_goes_to_on_error(url: str) -> None:
    problems: list[Exception] = []
    with SyncWsdClient(url, "ann", on_error=problems.append) as client:

        def answer(message: Message) -> None:
            client.publish("answers", message["data"] + 1)
            raise ValueError("after the answer")

        client.subscribe("answers")
        client.subscribe("questions", answer)
        client.publish("questions", 1)
        assert take(client, 1) == [2]
        assert [str(each) for each in problems] == ["after the answer"]


def test_what_a_function_raises_is_logged_without_on_error(url: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Message) -> None:
        raise ValueError("for this reason")

    with SyncWsdClient(url, "ann") as client:
        client.subscribe("failing", fail)
        client.subscribe("fine")
        client.publish("failing", 1)
        client.publish("fine", 2)
        assert take(client, 1) == [2]
    assert "for this reason" in caplog.text


def test_coroutine_functions_are_refused(url: str) -> None:
    async def never(argument: object) -> None: ...

    with pytest.raises(TypeError, match="async def"):
        SyncWsdClient(url, on_left=never)
    with SyncWsdClient(url) as client, pytest.raises(TypeError, match="async def"):
        client.subscribe("room", never)


def test_functions_in_the_thread_of_the_client_may_close_it_but_not_wait_for_it(url: str) -> None:
    problems: list[str] = []

    def on_state(state: State) -> None:
        if state.name == "open":
            try:
                client.publish("room", 1)
            except RuntimeError as exc:
                problems.append(str(exc))
            client.close()

    client = SyncWsdClient(url, "ann", on_state=on_state)
    with client:
        assert list(client) == []
    assert problems == ["functions that run in the client's own thread cannot wait for it"]


@pytest.mark.parametrize("serving", [True, False])
def test_close_ends_what_other_threads_wait_for(url: str, serving: bool) -> None:
    address = url if serving else f"ws://127.0.0.1:{unused_port()}/ws"
    with ThreadPoolExecutor(4) as pool, SyncWsdClient(address, "ann") as client:
        waiting: list[Future[Any]] = [pool.submit(client.receive), pool.submit(list, client)]
        if not serving:
            waiting.append(pool.submit(client.publish, "room", 1))
            until(lambda: client.waiting.requests == 1)
        time.sleep(0.05)
        client.close()
        client.close()
        for each in waiting:
            if isinstance(problem := each.exception(20), RequestError):
                assert problem.code == "closed"
            else:
                assert each.result() == []
        with pytest.raises(RequestError, match="closed"):
            client.publish("room", 1)
        with pytest.raises(RequestError, match="closed"):
            client.receive()
        with pytest.raises(RuntimeError, match="once"):
            client.start()


def test_before_the_start(url: str) -> None:
    client = SyncWsdClient(url, "ann")
    with pytest.raises(RuntimeError, match="with"):
        client.publish("room", 1)
    client.close()


def test_a_client_that_the_server_refuses_says_why(url: str) -> None:
    with SyncWsdClient(url, "a\u202eb") as client:
        with pytest.raises(RequestError, match="U\\+202E"):
            client.publish("room", 1)
        with pytest.raises(RequestError, match="U\\+202E"):
            list(client)


def test_a_channel_that_the_hub_refuses_when_the_client_comes_back_is_left(tmp_path: Path) -> None:
    address = f"127.0.0.1:{unused_port()}"
    lefts: list[Left] = []
    may_connect = threading.Event()

    def token() -> None:
        may_connect.wait()

    may_connect.set()
    rules = json.dumps({"*": {"history_size": 0}, "small": {"max_members": 1, "history_size": 0}})
    with SyncWsdClient(f"ws://{address}/ws", "ann", token=token, on_left=lefts.append) as client:
        with worker(tmp_path, listen=address, channels=rules):
            client.subscribe("small", print)
            may_connect.clear()
        with worker(tmp_path, listen=address, channels=rules), SyncWsdClient(f"ws://{address}/ws", "bob") as bob:
            bob.subscribe("small")
            may_connect.set()
            client.reconnect()

            def left() -> bool:
                with pytest.raises(TimeoutError):
                    client.receive(timeout=0.05)
                return bool(lefts)

            until(left)
    assert [(each.channel, each.code) for each in lefts] == [("small", "channel_full")]


PROGRAM = """
import sys
from wsd.client import SyncWsdClient
client = SyncWsdClient(sys.argv[1], "ann")
client.start()
"""


def program(url: str, *lines: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    text = "\n".join([PROGRAM, *lines])
    return subprocess.run([sys.executable, "-c", text, url], capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize("line", ["client.publish('room', 1)", "pass", "client.reconnect()", "raise SystemExit(0)"])
def test_a_program_that_forgets_to_close_ends_all_the_same(url: str, line: str) -> None:
    ended = program(url, line)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_program_ends_while_the_name_of_the_host_is_looked_up(url: str) -> None:
    slow = "import socket, time; socket.getaddrinfo = lambda *a, **k: time.sleep(60)"
    ended = program("ws://slow.example/ws", slow, "client.reconnect()", "time.sleep(0.2)", "client.close()")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_forked_process_is_told_to_make_its_own_client(url: str) -> None:
    ended = program(
        url,
        "import os",
        "client.publish('room', 1)",
        "child = os.fork()",
        "if not child:",
        "    client.close()",  # the parent goes on with it
        "    client.publish('room', 2)",
        "os.waitpid(child, 0)",
        "client.publish('room', 3)",
        "client.close()",
    )
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1].startswith("RuntimeError: this client belongs to process")


@pytest.mark.parametrize("line", ["client.receive()", "list(client)", "client.publish('room', 1)"])
def test_ctrl_c_interrupts_what_waits(line: str) -> None:
    with socket.socket() as listening:  # nobody answers
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        code = [PROGRAM, "try:", "    print('waiting', flush=True)", f"    {line}", "except KeyboardInterrupt:"]
        code += ["    print(client.waiting.requests if client.close() is None else None)"]
        # A program that was started in the background of a shell ignores SIGINT, and so do all that it starts.
        interpreter = ["env", "--default-signal=INT", sys.executable]
        command = [*interpreter, "-c", "\n".join(code), f"ws://127.0.0.1:{port}/ws"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            time.sleep(0.2)  # it cannot be seen from outside that it waits
            process.send_signal(signal.SIGINT)
            try:
                output, problems = process.communicate(timeout=20)
            finally:
                process.kill()
    assert (output, problems) == ("0\n", "")


def test_the_example_is_a_chat(url: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / "chat_client.py"), url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with SyncWsdClient(url, "source") as source:
        source.publish("chat", "said before")
        with subprocess.Popen([*command, "ann", "chat"], **pipes) as ann:  # type: ignore[call-overload]
            assert ann.stdout.readline() == "source: said before\n"
            ann.stdin.write("hello\n")
            ann.stdin.flush()
            assert ann.stdout.readline() == "ann: hello\n"
            source.publish("chat", "bye")
            assert ann.stdout.readline() == "source: bye\n"
            ann.stdin.close()
            assert ann.wait(20) == 0
