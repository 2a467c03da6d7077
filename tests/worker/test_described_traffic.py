"""Everything that a worker really takes and answers is as its descriptions say, and all that they say happens."""

import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from jsonschema import Draft202012Validator
from websockets.asyncio.client import ClientConnection

from tests.support.hub_client import close_of, receive
from tests.support.ports import unused_port
from tests.support.waiting import eventually
from tests.support.worker import RawBody, Worker, close_opened, worker
from wsd.worker.contract.http_paths import ASYNCAPI_PATH, OPENAPI_PATH

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
KEY = {"X-API-Key": "sesame"}
READER = {"Authorization": "Bearer only-for-nothing"}
READERS = json.dumps({"reader": {"key": "only-for-nothing", "rights": [], "channels": ["nothing"]}})
CHANNELS = json.dumps(
    {
        "*": {},
        "told:*": {"presence": "events"},
        "read:*": {"receipts": True},
        "lossy:*": {"slow_readers": "drop_oldest"},
    }
)
STRANGER = {"X-Forwarded-For": "192.0.2.1"}

NOT_PROVOKED = {
    ("health", "503"): "a worker that must not get traffic has no socket any more",
    ("health_head", "503"): "as with GET",
    ("publish", "503"): "Redis must be full",
}
"""Answers that are declared and do not happen here, and why."""


def strict(components: Mapping[str, Any]) -> dict[str, Any]:
    """Return schemas by which an object has no fields that are not described."""
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in components.items()
    }


class Described:
    """A description of a worker, to compare with what really happens."""

    def __init__(self, serving: Worker, path: str) -> None:
        status, self.document = serving.request("GET", path)
        assert status == 200
        self._components = {"schemas": strict(self.document["components"]["schemas"])}
        self.seen: set[tuple[str, str]] = set()

    def check(self, schema: Mapping[str, Any], value: object) -> None:
        """Check that a value is as a schema says."""
        Draft202012Validator({**schema, "components": self._components}).validate(value)


class DescribedProtocol(Described):
    """The protocol over the WebSocket. `seen` has the direction and the name of each message."""

    def __init__(self, serving: Worker) -> None:
        super().__init__(serving, ASYNCAPI_PATH)
        self.hub = self.document["channels"]["hub"]
        self.declared: set[tuple[str, str]] = set()
        for operation in self.document["operations"].values():
            replies = operation.get("reply", {}).get("messages", [])
            self.declared |= {(operation["action"], self._name(each)) for each in operation["messages"]}
            self.declared |= {("send", self._name(each)) for each in replies}

    @staticmethod
    def _name(reference: Mapping[str, str]) -> str:
        return reference["$ref"].rpartition("/")[2]

    def saw(self, direction: str, message: dict[str, Any]) -> None:
        """Check a message that a client sent (`receive`) or got (`send`)."""
        schemas = self.document["components"]["schemas"]
        for way, name in self.declared:
            kinds = schemas[name].get("properties", {}).get("type", {}).get("enum", [None])
            if way == direction and message.get("type") in kinds:
                self.check({"$ref": f"#/components/schemas/{name}"}, message)
                self.seen.add((direction, name))
                return
        raise AssertionError(f"not described: {direction} {message}")


class DescribedClient:
    """A client of the hub whose messages in both directions are compared with the description."""

    def __init__(self, connection: ClientConnection, described: DescribedProtocol) -> None:
        self.connection = connection
        self._described = described

    @classmethod
    async def open(cls, serving: Worker, described: DescribedProtocol, query: str, **options: Any) -> "DescribedClient":
        binding = described.hub["bindings"]["ws"]["query"]
        described.check({**binding, "additionalProperties": False}, dict(parse_qsl(query)))
        return cls(await serving.open(query, **options), described)

    async def send(self, **message: object) -> None:
        self._described.saw("receive", message)
        await self.connection.send(json.dumps(message))

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next message of a type."""
        while True:
            message = await receive(self.connection)
            self._described.saw("send", message)
            if message["type"] == kind:
                return message

    async def ask(self, answer: str, **request: object) -> dict[str, Any]:
        """Send a request with an id, and return the message of a type that answers it."""
        await self.send(**request, id=[1, "a"])
        found = await self.next(answer)
        assert found["id"] == [1, "a"]
        return found


class DescribedApi(Described):
    """The HTTP API. `seen` has the operation and the status of each answer."""

    def __init__(self, serving: Worker) -> None:
        super().__init__(serving, OPENAPI_PATH)
        self.operations = {
            (method.upper(), path): operation
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
        }

    @property
    def declared(self) -> set[tuple[str, str]]:
        return {
            (operation["operationId"], status)
            for operation in self.operations.values()
            for status in operation["responses"]
        }

    def ask(
        self, serving: Worker, method: str, target: str, body: object = None, headers: Mapping[str, str] = KEY
    ) -> tuple[int, Any]:
        """Send a request, and compare it and its answer with the description."""
        path = urlsplit(target).path
        operation = next(
            operation
            for (known, template), operation in self.operations.items()
            if known == method and (path == template or path.startswith(template.partition("{")[0] + "room"))
        )
        status, answer = serving.request(method, target, body, dict(headers))
        if status == 200:
            names = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
            assert set(dict(parse_qsl(urlsplit(target).query))) <= names
            if body is not None:
                self.check(operation["requestBody"]["content"]["application/json"]["schema"], body)
        for content in operation["responses"][str(status)].get("content", {}).values():
            self.check(content["schema"], answer)
        self.seen.add((operation["operationId"], str(status)))
        return status, answer


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker in memory that has API keys and authenticates its clients."""
    directory = tmp_path_factory.mktemp("traffic")
    settings: dict[str, Any] = {"api_key": "sesame", "api_keys": READERS, "channels": CHANNELS, "jwt_secret": SECRET}
    with worker(directory, **settings, max_buffer_bytes=65536) as running:
        yield running


@pytest.fixture(autouse=True)
async def closing() -> AsyncIterator[None]:
    yield
    await close_opened()


def token(user_id: str) -> str:
    return jwt.encode({"sub": user_id, "exp": time.time() + 600}, SECRET, "HS256")


def publish(serving: Worker, **message: object) -> dict[str, Any]:
    """Publish a message over HTTP, and return its result."""
    status, answer = serving.request("POST", "/api/websocket/publish", message, KEY)
    assert status == 200
    result: dict[str, Any] = answer["results"][0]
    return result


async def test_every_message_of_the_protocol_is_sent_as_it_is_described(serving: Worker) -> None:
    described = DescribedProtocol(serving)
    ann = await DescribedClient.open(serving, described, "", subprotocols=["wsd.bearer", token("ann")])
    welcome = await ann.next("welcome")
    bob = await DescribedClient.open(serving, described, f"token={token('bob')}")
    await bob.next("welcome")

    await ann.ask("ack", type="subscribe", channel="told:room")
    await bob.ask("ack", type="subscribe", channel="told:room", last=10)
    await ann.next("presence_changed")
    await bob.ask("ack", type="publish", channel="told:room", data={"text": "hi"}, idempotency_key="once")
    assert (await ann.next("message"))["from"]["user_id"] == "bob"
    await bob.ask("ack", type="broadcast", data=1)
    await bob.send(any=["object"])
    await bob.ask("ack", type="direct", user_id="ann", data=None)
    assert [(await ann.next("message"))["data"] for _ in range(3)] == [1, {"any": ["object"]}, None]
    assert len((await ann.ask("presence", type="presence", channel="told:room"))["members"]) == 2
    assert len((await ann.ask("history", type="history", channel="told:room", reverse=True))["messages"]) == 1
    await ann.ask("error", type="publish", channel="no channel", data=1)
    await ann.ask("ack", type="unsubscribe", channel="told:room")
    await ann.ask("ack", type="refresh", token=token("ann"))

    await ann.ask("ack", type="subscribe", channel="read:room")
    position = publish(serving, channel="read:room", data="read this")
    at = {"offset": position["offset"], "epoch": position["epoch"]}
    await ann.next("message")
    await ann.ask("pong", type="ping", positions={"read:room": at})
    await ann.ask("delivered", type="delivered", channel="read:room", user_id="ann", **at)
    publish(serving, channel="read:room", data="not for ann", exclude=welcome["session_id"])
    await ann.next("position")
    serving.request("POST", "/api/websocket/unsubscribe", {"user_id": "ann", "channel": "read:room"}, KEY)
    await ann.next("unsubscribed")

    await bob.ask("ack", type="subscribe", channel="lossy:room")
    bob.connection.transport.pause_reading()
    for _ in range(30):
        publish(serving, channel="lossy:room", data="x" * 50_000)
    bob.connection.transport.resume_reading()
    await bob.next("gap")

    ann.connection.transport.abort()
    sessions = "/api/websocket/sessions?user_id=ann"
    await eventually(lambda: serving.request("GET", sessions, None, KEY)[1]["sessions"][0]["state"] == "detached")
    back = await DescribedClient.open(serving, described, "resume=1", subprotocols=["wsd.bearer", token("ann")])
    await back.send(type="resume", token=welcome["resume_token"], since={"told:room": {"offset": 0, "epoch": ""}})
    assert (await back.next("welcome"))["resumed"]
    assert described.seen == described.declared


async def test_the_server_closes_with_codes_that_are_described(serving: Worker) -> None:
    described = DescribedProtocol(serving)
    stranger = await DescribedClient.open(serving, described, "token=rubbish")
    ended = await DescribedClient.open(serving, described, f"token={token('eve')}")
    await ended.next("welcome")
    serving.request("POST", "/api/websocket/disconnect", {"user_id": "eve"}, KEY)
    codes = [(await close_of(client.connection))[0] for client in (stranger, ended)]
    assert codes == [1008, 4500]
    assert {str(code) for code in codes} <= set(described.hub["x-close-codes"])


async def test_every_request_of_the_http_api_is_answered_as_it_is_described(serving: Worker, tmp_path: Path) -> None:
    described = DescribedApi(serving)
    ann = await serving.open(subprotocols=["wsd.bearer", token("ann")])
    assert (await receive(ann))["type"] == "welcome"

    def succeeds(method: str, path: str, body: object = None) -> None:
        status, answer = described.ask(serving, method, path, body)
        assert status == 200, answer

    def fails(status: int, method: str, path: str, body: object = None, headers: Mapping[str, str] = KEY) -> None:
        assert described.ask(serving, method, path, body, headers)[0] == status

    api = "/api/websocket"
    for path in ("/health", "/metrics", f"{api}/openapi.json", f"{api}/asyncapi.json", f"{api}/stats?scope=worker"):
        succeeds("GET", path)
    described.ask(serving, "GET", "/health", headers=STRANGER)
    succeeds("HEAD", "/health")
    succeeds("POST", f"{api}/subscribe", {"user_id": "ann", "channel": "room"})
    succeeds("POST", f"{api}/publish", {"channel": "room", "data": {"a": 1}})
    succeeds("POST", f"{api}/publish", [{"channels": ["room", "room:2"], "data": 1}, {"user_id": "ann", "data": 2}])
    succeeds("GET", f"{api}/stats?offset=0&limit=5")
    succeeds("GET", f"{api}/history/room?since=0&limit=10&reverse=true")
    succeeds("GET", f"{api}/presence/room?limit=10")
    succeeds("GET", f"{api}/channels?offset=0&limit=10")
    succeeds("GET", f"{api}/sessions?user_id=ann&offset=0&limit=10")
    succeeds("DELETE", f"{api}/history/room")
    succeeds("POST", f"{api}/unsubscribe", {"user_id": "ann", "channel": "room"})
    succeeds("POST", f"{api}/disconnect", {"user_id": "ann", "code": 4600, "reason": "enough"})

    requests = [
        ("POST", f"{api}/publish"),
        ("GET", f"{api}/history/room%20?limit=x"),
        ("DELETE", f"{api}/history/room%20"),
        ("GET", f"{api}/presence/room%20"),
        ("GET", f"{api}/channels?limit=x"),
        ("GET", f"{api}/sessions?limit=x"),
        ("POST", f"{api}/disconnect"),
        ("POST", f"{api}/subscribe"),
        ("POST", f"{api}/unsubscribe"),
    ]
    with worker(tmp_path) as keyless:
        for method, path in requests:
            fails(400, method, path, {})
            fails(401, method, path, {}, {})
            fails(403, method, path, {}, READER)
            assert described.ask(keyless, method, path, {})[0] == 404
            if method == "POST":
                fails(413, method, path, RawBody("x" * 2_000_000))
    fails(400, "GET", f"{api}/stats?limit=x")
    fails(403, "GET", f"{api}/stats", None, STRANGER)
    fails(403, "GET", "/metrics", None, STRANGER)
    with worker(tmp_path, redis_url=f"redis://127.0.0.1:{unused_port()}", api_key="sesame") as alone:
        for method, path, body in (
            ("GET", f"{api}/history/room", None),
            ("DELETE", f"{api}/history/room", None),
            ("GET", f"{api}/sessions", None),
            ("POST", f"{api}/disconnect", {"user_id": "ann"}),
        ):
            assert described.ask(alone, method, path, body)[0] == 503
    assert described.seen == described.declared - set(NOT_PROVOKED)
