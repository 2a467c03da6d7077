"""The language between supervisor and worker survives its own round trip, and refuses everything else."""

import json
from dataclasses import asdict, fields, replace
from itertools import product

import pytest

from wsd.worker.contract import redis_keys
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.events import Event
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState
from wsd.worker.contract.redis_keys import channel_key, heartbeat_key, node_key

BEAT = Heartbeat(
    worker_id="worker-1-aaaa",
    node_id="n",
    slot=1,
    pid=2,
    beat=3,
    uptime=4.5,
    state=WorkerState.READY,
    connections=5,
    messages_in=6,
    messages_out=7,
    loop_lag=0.001,
    rss=8,
    redis=True,
)


def test_the_environment_survives_the_way_to_the_worker() -> None:
    env = WorkerEnv(
        worker_id="worker-1-aaaa", node_id="n", redis_url="redis://h", distributed=False, slot=3, drain_seconds=1.5
    )
    assert WorkerEnv.from_env(env.to_env()) == env
    assert WorkerEnv.from_env({**env.to_env(), "UNRELATED": "1"}) == env


def test_without_an_environment_the_defaults_hold() -> None:
    env = WorkerEnv.from_env({})
    assert env.worker_id.startswith("worker-")
    assert env.node_id
    assert replace(env, worker_id="", node_id="") == WorkerEnv()


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("Yes", True), ("off", False), ("0", False)])
def test_booleans_in_the_environment_are_written_in_many_ways(text: str, value: bool) -> None:
    assert WorkerEnv.from_env({"DISTRIBUTED_WEBSOCKET_ENABLED": text}).distributed is value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DISTRIBUTED_WEBSOCKET_ENABLED", "perhaps"),
        ("WEBSOCKET_SESSION_TTL", "long"),
        ("WSD_WORKER_SLOT", "1.5"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*'{text}'$"):
        WorkerEnv.from_env({name: text})


def test_each_field_has_a_variable_of_its_own() -> None:
    names = [field.metadata["env"] for field in fields(WorkerEnv)]
    assert len(set(names)) == len(names)
    assert {"WORKER_ID", "NODE_ID", "REDIS_URL", "DISTRIBUTED_WEBSOCKET_ENABLED", "WEBSOCKET_SESSION_TTL"} <= {*names}


def test_a_heartbeat_survives_redis_and_health() -> None:
    assert Heartbeat.from_json(BEAT.to_json()) == BEAT
    assert Heartbeat.from_json(BEAT.to_json().encode()) == BEAT
    assert Heartbeat.from_health(json.dumps({"status": "healthy", "heartbeat": asdict(BEAT)}).encode()) == BEAT
    assert Heartbeat.from_json(json.dumps({**asdict(BEAT), "of_a_newer_worker": 1})) == BEAT


@pytest.mark.parametrize("text", ["", "{", "null", "1", "[]", '"text"', "{}", '{"worker_id": "a"}', b"\xff"])
def test_text_that_is_not_a_heartbeat_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Heartbeat.from_json(text)


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{}", b'{"heartbeat": 1}', b'{"heartbeat": null}'])
def test_a_health_answer_without_a_heartbeat_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Heartbeat.from_health(body)


@pytest.mark.parametrize(
    ("field", "value"),
    [("beat", "1"), ("beat", None), ("pid", True), ("loop_lag", []), ("rss", 10**400), ("redis", 1), ("uptime", "x")],
)
def test_a_heartbeat_with_a_value_of_another_type_is_refused(field: str, value: object) -> None:
    raw = json.loads(BEAT.to_json())
    with pytest.raises(ValueError, match=field):
        Heartbeat.from_json(json.dumps({**raw, field: value}))


def test_endless_nesting_is_refused() -> None:
    for read in (Heartbeat.from_json, Event.from_json):
        with pytest.raises(ValueError, match="nested too deeply"):
            read("[" * 100_000)


def test_an_unknown_state_is_refused() -> None:
    with pytest.raises(ValueError, match="asleep"):
        Heartbeat.from_json(json.dumps({**asdict(BEAT), "state": "asleep"}))


def test_keys_that_a_script_touches_share_a_hash_tag() -> None:
    assert heartbeat_key("w") == "{wsd}:worker:w"
    assert node_key("n") == "{wsd}:node:n"
    assert channel_key("chat") == "ws_channel:{chat}"


NASTY_NAMES = [
    "",
    "a",
    "!",
    "!a",
    "!a}",
    "!a}:b",
    "a:b",
    "}",
    "{",
    "}:",
    "{}",
    "s",
    ":",
    "sessions",
    "a\0",
    "\u202e",
    "é",
    "~x:1",
]
"""User ids may be any of these, and so may channels: the one of a user is called after it."""

PLAIN_NAMES = ["a", "b", "a:b", "worker-1-ca1c", "9c1e02ab"]
"""Worker ids, epochs and digests have no braces: WorkerEnv, `wire.position.Epoch` and `idempotency` see to it."""


def test_no_two_things_have_one_key_in_redis() -> None:
    keys = [
        redis_keys.LIVE_WORKERS_KEY,
        redis_keys.SESSIONS_KEY,
        redis_keys.SESSION_WORKERS_KEY,
        redis_keys.CLEANUP_KEY,
        redis_keys.EVERY_WORKER,
    ]
    for of_one_name in (
        heartbeat_key,
        node_key,
        redis_keys.session_key,
        redis_keys.user_sessions_key,
        redis_keys.worker_sessions_key,
        channel_key,
        redis_keys.history_key,
        redis_keys.history_meta_key,
        redis_keys.presence_workers_key,
        redis_keys.trace_key,
        redis_keys.user_traces_key,
        redis_keys.user_connections_key,
    ):
        keys += [of_one_name(name) for name in NASTY_NAMES]
    keys += [redis_keys.worker_channel(name) for name in PLAIN_NAMES]
    for of_two_names in (redis_keys.idempotency_key, redis_keys.receipts_key, redis_keys.presence_key):
        keys += [of_two_names(name, plain) for name, plain in product(NASTY_NAMES, PLAIN_NAMES)]
    assert len(set(keys)) == len(keys)


def test_a_channel_is_found_in_its_key() -> None:
    assert [redis_keys.channel_of(channel_key(name)) for name in NASTY_NAMES] == NASTY_NAMES


@pytest.mark.parametrize("worker_id", ["a}b", "a b", "{", "a\n", "a" * 129])
def test_a_worker_id_has_no_braces_and_no_spaces(worker_id: str) -> None:
    with pytest.raises(ValueError, match="WORKER_ID"):
        WorkerEnv.from_env({"WORKER_ID": worker_id})
