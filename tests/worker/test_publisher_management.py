"""The requests of a publisher about histories, members, sessions and users, against a real worker."""

from collections.abc import Iterator

import pytest

from tests.support.ports import unused_port
from tests.support.waiting import until
from tests.support.worker import worker
from wsd import Publisher
from wsd.client import SyncWsdClient
from wsd.publisher.records import Member

KEY = "sesame"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listen = f"127.0.0.1:{unused_port()}"
    with worker(tmp_path_factory.mktemp("worker"), listen=listen, api_key=KEY) as serving:
        yield f"http://{listen}"
        serving.check_unharmed()


@pytest.fixture
def hub(url: str) -> str:
    return f"{url.replace('http', 'ws')}/ws"


@pytest.fixture
def publisher(url: str) -> Iterator[Publisher]:
    with Publisher(url, KEY) as opened:
        yield opened


def data_in(publisher: Publisher, channel: str) -> list[object]:
    return [message["data"] for message in publisher.history(channel).messages]


def test_a_history_is_deleted(publisher: Publisher) -> None:
    publisher.publish("deleted", 1)
    publisher.delete_history("deleted")
    assert data_in(publisher, "deleted") == []
    publisher.publish("deleted", 2)
    assert data_in(publisher, "deleted") == [2]


def test_members_and_sessions_are_listed(publisher: Publisher, hub: str) -> None:
    with SyncWsdClient(hub, "cara", "Cara") as cara:
        cara.subscribe("members/of:this#channel")
        found = publisher.presence("members/of:this#channel")
        assert (found.channel, found.count) == ("members/of:this#channel", 1)
        assert found.members == (Member("cara", "Cara", "n", "worker-1-test"),)
        listed = publisher.sessions("cara")
        assert listed.total == 1
        (session,) = listed.sessions
        assert (session.user_id, session.channels) == ("cara", ("members/of:this#channel",))
        assert publisher.sessions("nobody").sessions == ()


def test_users_join_and_leave_and_are_disconnected(publisher: Publisher, hub: str) -> None:
    ended: list[str] = []
    with SyncWsdClient(hub, "dora", on_state=lambda state: ended.append(state.name)) as dora:
        until(lambda: dora.state.name == "open")
        assert publisher.subscribe("dora", "joined") == 1
        assert publisher.presence("joined").count == 1
        assert publisher.unsubscribe("dora", "joined") == 1
        assert publisher.presence("joined").count == 0
        (session,) = publisher.disconnect(user_id="dora", reason="over")
        assert session.user_id == "dora"
        until(lambda: "closed" in ended)
        assert publisher.disconnect(user_id="dora") == ()


def test_the_id_of_a_user_may_be_a_number(publisher: Publisher, hub: str) -> None:
    with SyncWsdClient(hub, "42") as client:
        until(lambda: client.state.name == "open")
        assert publisher.sessions(42).total == 1
        assert publisher.subscribe(42, "numbers") == 1
        publisher.send_to_user(42, "hello")
        assert client.receive(timeout=5)["data"] == "hello"
        assert publisher.unsubscribe(42, "numbers") == 1
        assert len(publisher.disconnect(user_id=42)) == 1


def test_a_session_can_be_left_out(publisher: Publisher, hub: str) -> None:
    with SyncWsdClient(hub, "ann") as ann, SyncWsdClient(hub, "bob") as bob:
        for client in (ann, bob):
            client.subscribe("all-but-ann")
        assert ann.welcome is not None
        publisher.publish("all-but-ann", 1, exclude=ann.welcome["session_id"])
        publisher.publish("all-but-ann", 2)
        assert [bob.receive(timeout=20)["data"] for _ in range(2)] == [1, 2]
        assert ann.receive(timeout=20)["data"] == 2
