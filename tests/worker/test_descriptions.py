"""The descriptions of the HTTP API (OpenAPI) and of the hub's protocol (AsyncAPI)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.worker import Worker, worker
from wsd.worker.contract import http_paths
from wsd.worker.contract.api_keys import Right
from wsd.worker.endpoints import asyncapi
from wsd.worker.endpoints.descriptions import Message
from wsd.worker.wire import messages as wire

OPENAPI, ASYNCAPI = http_paths.OPENAPI_PATH, http_paths.ASYNCAPI_PATH
META_SCHEMA = Path(__file__).parent.parent / "support" / "asyncapi" / "3.0.0.json"
METHODS = {"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH"}
RIGHTS: tuple[Right, ...] = get_args(Right)


def key_with(rights: set[Right]) -> dict[str, object]:
    return {"key": f"key-with-{'-'.join(sorted(rights))}", "rights": sorted(rights), "channels": ["*"]}


KEYS = {
    **{f"only-{right}": key_with({right}) for right in RIGHTS},
    **{f"all-but-{right}": key_with(set(RIGHTS) - {right}) for right in RIGHTS},
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker with a key for each right, and one for all other rights."""
    with worker(tmp_path_factory.mktemp("described"), api_keys=json.dumps(KEYS)) as running:
        yield running


def document(serving: Worker, path: str) -> dict[str, Any]:
    status, found = serving.request("GET", path)
    assert status == 200
    assert isinstance(found, dict)
    return found


def operations(openapi: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name the path, with the name of a channel in it, and the method of each operation, and return the operation."""
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            yield path.replace("{channel}", "room"), method.upper(), operation


def test_the_description_of_the_http_api_is_valid_openapi(serving: Worker) -> None:
    OpenAPIV31SpecValidator(document(serving, OPENAPI)).validate()


def test_the_description_of_the_protocol_is_valid_asyncapi(serving: Worker) -> None:
    Draft7Validator(json.loads(META_SCHEMA.read_text())).validate(document(serving, ASYNCAPI))


@pytest.mark.parametrize("path", [OPENAPI, ASYNCAPI])
def test_every_schema_in_a_description_is_a_json_schema(serving: Worker, path: str) -> None:
    for schema in document(serving, path)["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
        assert "enum" in schema or schema["description"]
        assert "\\A" not in json.dumps(schema)
        fields = schema.get("properties", {})
        assert [name for name, field in fields.items() if name != "type" and not field.get("description")] == []


def test_every_path_of_the_http_api_is_described(serving: Worker) -> None:
    known = {value for name, value in vars(http_paths).items() if name.endswith("_PATH")}
    known.remove(http_paths.CENTRIFUGE_PATH)  # a WebSocket
    assert {path.removesuffix("{channel}") for path in document(serving, OPENAPI)["paths"]} == known


def test_exactly_the_methods_that_are_described_are_answered(serving: Worker) -> None:
    described: dict[str, set[str]] = {}
    for path, method, _ in operations(document(serving, OPENAPI)):
        described.setdefault(path, set()).add(method)
    for path, methods in described.items():
        answered = {method for method in METHODS if serving.request(method, path)[0] != 405}
        assert answered == methods, path


def test_an_operation_needs_exactly_the_right_that_its_description_says(serving: Worker) -> None:
    for path, method, operation in operations(document(serving, OPENAPI)):
        if "security" not in operation:
            assert serving.request(method, path)[0] == 200
            continue
        [right] = operation["security"][0]["bearer"]
        assert serving.request(method, path, {})[0] == 401
        status, answer = serving.request(method, path, {}, {"X-API-Key": str(KEYS[f"all-but-{right}"]["key"])})
        assert status == 403, answer
        status, answer = serving.request(method, path, {}, {"Authorization": f"Bearer {KEYS[f'only-{right}']['key']}"})
        assert status in (200, 400), answer


def test_every_record_of_the_protocol_is_described(serving: Worker) -> None:
    records = {kind for kind in vars(wire).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    tagged = {kind.__name__ for kind in records if kind.__struct_config__.tag is not None}
    assert set(document(serving, ASYNCAPI)["channels"]["hub"]["messages"]) == {*tagged, asyncapi.UNTYPED}
    assert set(asyncapi.REPLIES) == set(get_args(wire.Request))
    assert set(wire.Message.__struct_fields__) < set(Message.__struct_fields__)
