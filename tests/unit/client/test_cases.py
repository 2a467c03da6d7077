"""The machine in Python passes the table of cases in clients/cases, as the one in JavaScript does."""

import json
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from wsd.client.effects import (
    AskChannelToken,
    AskNewToken,
    AskToken,
    Connect,
    Deliver,
    Disconnect,
    Effect,
    Gap,
    Left,
    PresenceChanged,
    Reject,
    Resolve,
    Send,
    StateChanged,
)
from wsd.client.ends import End
from wsd.client.errors import RequestError
from wsd.client.machine import Machine
from wsd.client.settings import Settings

CASES = Path(__file__).parents[3] / "clients" / "cases"

WELCOME: dict[str, Any] = {
    "type": "welcome",
    "session_id": "s1",
    "user_id": "guest-1",
    "username": "guest-1",
    "resumed": False,
    "resume_token": "r1",
    "channels": {"broadcast": {"offset": 0, "epoch": "e"}, "direct": {"offset": 0, "epoch": "e"}},
    "limits": {},
}


class Run:
    """A machine of one case, with its events and effects in the words of the cases."""

    def __init__(self, case: dict[str, Any]) -> None:
        given = case.get("random", 0.5)
        numbers = given if isinstance(given, list) else [given]
        random = chain(numbers, repeat(numbers[-1]))
        self.machine = Machine(Settings(**case.get("settings", {})), "run", lambda: next(random))
        self._begun = 0  # attempts whose events come now
        self._shown = 0  # attempts whose effects were seen
        if start := case.get("from"):
            fields = {} if start == "open" else start
            for event in (["start"], ["token", None], ["opened"], ["welcome", fields]):
                self.do(0, event)
                self.effects()

    def do(self, now: float, event: list[Any]) -> Any:
        """Report an event to the machine. Return what it returns."""
        return getattr(self, f"_{event[0]}")(now, *event[1:])

    def effects(self) -> list[list[Any]]:
        """Return the effects of the last event."""
        return [self._in_words(effect) for effect in self.machine.take_effects()]

    # Events of the application

    def _start(self, now: float) -> None:
        self.machine.start(now)

    def _call(self, now: float, kind: str, fields: dict[str, Any], timeout: float | None = None) -> int:
        return self.machine.call(now, kind, fields, timeout)

    def _subscribe(self, now: float, channel: str, options: dict[str, Any] | None = None) -> int:
        options = options or {}
        return self.machine.subscribe(
            now, channel, options.get("last", 0), options.get("timeout"), options.get("token")
        )

    def _unsubscribe(self, now: float, channel: str, options: dict[str, Any] | None = None) -> int:
        return self.machine.unsubscribe(now, channel, (options or {}).get("timeout"))

    def _cancel(self, now: float, request: int) -> None:
        self.machine.cancel(now, request)

    def _discard(self, now: float) -> int:
        return self.machine.discard_waiting(now)

    def _mark_read(self, now: float, channel: str, position: dict[str, Any] | None = None) -> None:
        self.machine.mark_read(now, channel, position)

    def _hold_messages(self, now: float) -> None:
        self.machine.hold_messages(now)

    def _take_messages(self, now: float) -> None:
        self.machine.take_messages(now)

    def _reconnect(self, now: float) -> None:
        self.machine.reconnect(now)

    def _wake(self, now: float) -> None:
        self.machine.wake(now)

    def _close(self, now: float) -> None:
        self.machine.close(now)

    # Events of the transport

    def _token(self, now: float, token: str | None, attempt: int = 0) -> None:
        self.machine.token_ready(now, attempt or self._begun, token)

    def _token_failed(self, now: float, problem: str, attempt: int = 0) -> None:
        self.machine.token_failed(now, attempt or self._begun, problem)

    def _channel_token(self, now: float, request: int, token: str | None) -> None:
        self.machine.channel_token_ready(now, request, token)

    def _channel_token_failed(self, now: float, request: int, problem: str) -> None:
        self.machine.channel_token_failed(now, request, problem)

    def _opened(self, now: float, attempt: int = 0) -> None:
        self.machine.opened(now, attempt or self._begun)

    def _welcome(self, now: float, fields: dict[str, Any], attempt: int = 0) -> None:
        welcome = {key: value for key, value in {**WELCOME, **fields}.items() if value is not None}
        self._hub(now, welcome, attempt)

    def _hub(self, now: float, message: dict[str, Any], attempt: int = 0) -> None:
        self._text(now, json.dumps(message), attempt)

    def _text(self, now: float, text: str, attempt: int = 0) -> None:
        self.machine.received(now, attempt or self._begun, text)

    def _ended(self, now: float, end: dict[str, Any], attempt: int = 0) -> None:
        self.machine.ended(now, attempt or self._begun, End(**end))

    def _tick(self, now: float) -> None:
        self.machine.tick(now)

    def _in_words(self, effect: Effect) -> list[Any]:
        if isinstance(effect, AskToken):
            assert effect.attempt == self._begun + 1, "attempts are counted"
            self._begun += 1
            return ["ask_token"]
        if isinstance(effect, AskNewToken | Connect | Send | Disconnect):
            assert effect.attempt == self._begun, "nothing is done with an earlier attempt"
        match effect:
            case AskNewToken():
                return ["ask_new_token"]
            case AskChannelToken():
                return ["ask_channel_token", effect.request, effect.channel, effect.source]
            case Connect():
                return ["connect", effect.query, effect.token]
            case Send():
                return ["send", json.loads(effect.text)]
            case Disconnect():
                return ["disconnect", effect.code]
            case Resolve():
                return ["resolve", effect.request, effect.answer]
            case Reject():
                return ["reject", effect.request, effect.code, effect.message]
            case Deliver():
                return ["deliver", effect.message]
            case Gap():
                return ["gap", effect.channel, effect.reason]
            case PresenceChanged():
                return ["presence", effect.event]
            case Left():
                return ["left", effect.channel, effect.code]
            case StateChanged(state):
                seen = {"code": state.code, "status": state.status, "retry_in": state.retry_in}
                fields = {key: value for key, value in seen.items() if value is not None}
                if state.failures:
                    fields["failures"] = state.failures
                return ["state", state.name, {**fields, "reason": state.reason}]
        raise AssertionError(effect)


def loosened(effect: list[Any], expected: list[Any]) -> list[Any]:
    """Return an effect with those of its texts for people that a case names in part, as the case has them."""
    if effect[0] != expected[0]:
        return effect
    if effect[0] == "reject":
        return [*effect[:3], *expected[3:]] if len(expected) < 4 or expected[3] in effect[3] else effect
    if effect[0] != "state":
        return effect
    fields, wanted = dict(effect[2]), expected[2] if len(expected) > 2 else {}
    reason = fields.pop("reason")
    if "reason" in wanted:
        fields["reason"] = wanted["reason"] if wanted["reason"] in reason else reason
    return [*effect[:2], fields] if len(expected) > 2 or fields else effect[:2]


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON. Numbers may differ by less than a millionth."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) < 1e-6
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def cases() -> Iterator[Any]:
    names = set()
    for path in sorted(CASES.glob("*.json")):
        for case in json.loads(path.read_text("utf-8")):
            assert case["name"] not in names, f"{path.name} has a name twice: {case['name']}"
            names.add(case["name"])
            if "python" in case.get("only", ["python"]):
                yield pytest.param(case, id=f"{path.stem}: {case['name']}")


@pytest.mark.parametrize("case", list(cases()))
def test_the_machine_passes_the_case(case: dict[str, Any]) -> None:
    run = Run(case)
    now: float = 0
    for number, step in enumerate(case["steps"], 1):
        now = step.get("at", now)
        where = f"step {number} {step['do']}"
        returned, raised = outcome(run, now, step["do"])
        assert raised == step.get("raises"), where
        expected = step.get("then", [])
        seen = run.effects()
        seen = [loosened(*each) for each in zip(seen, expected, strict=False)] + seen[len(expected) :]
        assert same(seen, expected), f"{where}\nseen     {json.dumps(seen)}\nexpected {json.dumps(expected)}"
        if "returns" in step:
            assert returned == step["returns"], where
        if "deadline" in step:
            assert same(run.machine.deadline, step["deadline"]), f"{where}: {run.machine.deadline}"
        if "waiting" in step:
            assert list(run.machine.waiting) == step["waiting"], where


def outcome(run: Run, now: float, event: list[Any]) -> tuple[Any, str | None]:
    """Return what an event returns, and the code of the error that it raises."""
    try:
        return run.do(now, event), None
    except RequestError as exc:
        return None, exc.code
