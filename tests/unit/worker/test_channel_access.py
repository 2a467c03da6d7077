"""The decision of who may do what in a channel, case by case."""

from itertools import product
from typing import get_args

import pytest

from wsd.worker.contract.channel_rules import Allowed
from wsd.worker.security.authentication import Identity, unauthenticated
from wsd.worker.security.authorization import Action
from wsd.worker.security.channel_access import BY_APPLICATION, OPEN, ChannelAccess, Grant, Refusal, refusal, refused

ANN = Identity("ann")
GUEST = unauthenticated("ann", "ann")

TO_READ = Grant(actions=("subscribe", "history", "presence"), expires_at=100.0)
TO_WRITE = Grant(actions=("subscribe", "history", "presence", "publish"), expires_at=100.0)

ACTIONS: tuple[Action, ...] = get_args(Action)

# Who may do it: the guest, the authenticated client; with a token to read; with a token to read and to publish; put
# into the channel by the application. The letters are those of the actions: Subscribe, Publish, History, preseNce.
TABLE: dict[Allowed, tuple[str, str, str, str, str]] = {
    "anyone": ("SPHN", "SPHN", "SPHN", "SPHN", "SPHN"),
    "authenticated": ("", "SPHN", "SHN", "SPHN", "SHN"),
    "token": ("", "", "SHN", "SPHN", "SHN"),
    "server": ("", "", "", "", "S"),
    "nobody": ("", "", "", "", ""),
}
LETTERS: dict[Action, str] = {"subscribe": "S", "publish": "P", "history": "H", "presence": "N"}
CLIENTS = ((GUEST, None), (ANN, None), (GUEST, TO_READ), (GUEST, TO_WRITE), (GUEST, BY_APPLICATION))


def everywhere(allowed: Allowed, owner: str | None = None) -> ChannelAccess:
    return ChannelAccess(subscribe=allowed, publish=allowed, history=allowed, presence=allowed, owner=owner)


@pytest.mark.parametrize("allowed", TABLE)
def test_each_value_allows_what_the_table_says(allowed: Allowed) -> None:
    for (identity, grant), letters in zip(CLIENTS, TABLE[allowed], strict=True):
        may = [action for action in ACTIONS if refusal(everywhere(allowed), identity, action, grant) is None]
        assert may == [action for action in ACTIONS if LETTERS[action] in letters]


def test_the_table_has_every_value() -> None:
    assert set(TABLE) == set(get_args(Allowed))
    assert set(LETTERS) == set(ACTIONS)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_has_its_own_rule(action: Action) -> None:
    for other in ACTIONS:
        access = ChannelAccess(**{action: "nobody"})  # type: ignore[arg-type]
        assert (refusal(access, ANN, other) is None) == (other != action)
        assert access.is_open(other) == (other != action)


@pytest.mark.parametrize(("allowed", "action"), [*product(get_args(Allowed), ACTIONS)])
def test_of_another_user_no_token_allows_more_and_nothing_is_open(allowed: Allowed, action: Action) -> None:
    access = everywhere(allowed, owner="bob")
    assert not access.is_open(action)
    for identity, grant in product((ANN, GUEST), (None, TO_READ, TO_WRITE)):
        assert refusal(access, identity, action, grant) is not None


@pytest.mark.parametrize("allowed", TABLE)
def test_the_owner_may_do_what_is_allowed(allowed: Allowed) -> None:
    for (identity, grant), action in product(CLIENTS, ACTIONS):
        owned, free = everywhere(allowed, owner="ann"), everywhere(allowed)
        assert refusal(owned, identity, action, grant) == refusal(free, identity, action, grant)


def test_the_application_may_put_another_user_into_a_channel_to_read() -> None:
    access = everywhere("anyone", owner="bob")
    assert [action for action in ACTIONS if refusal(access, ANN, action, BY_APPLICATION) is None] == [
        "subscribe",
        "presence",
        "history",
    ]


@pytest.mark.parametrize(
    ("access", "identity", "why"),
    [
        (everywhere("authenticated"), GUEST, Refusal.NOT_AUTHENTICATED),
        (everywhere("token"), ANN, Refusal.NO_TOKEN),
        (everywhere("anyone", owner="bob"), ANN, Refusal.OTHER_USER),
        (everywhere("token", owner="bob"), ANN, Refusal.OTHER_USER),
        (everywhere("server", owner="bob"), ANN, Refusal.SERVER_ONLY),
        (everywhere("nobody"), ANN, Refusal.NOBODY),
        (OPEN, GUEST, None),
    ],
)
def test_the_reason_is_told(access: ChannelAccess, identity: Identity, why: Refusal | None) -> None:
    assert refusal(access, identity, "subscribe") is why


def test_a_grant_ends_with_its_token() -> None:
    assert TO_READ.at(99.9) is TO_READ
    assert TO_READ.at(100.0) is None
    assert Grant(actions=("subscribe",)).at(1e12) is not None
    assert BY_APPLICATION.at(1e12) is BY_APPLICATION


def test_a_member_keeps_what_the_application_gave_it_when_its_token_ends() -> None:
    for both in (BY_APPLICATION.with_(TO_WRITE), TO_WRITE.with_(BY_APPLICATION)):
        assert both == Grant(actions=TO_WRITE.actions, expires_at=100.0, by_application=True)
        assert both.at(99.0) is both
        assert both.at(100.0) == BY_APPLICATION


def test_a_new_token_takes_the_place_of_the_old_one() -> None:
    newer = Grant(actions=("subscribe",), expires_at=50.0)
    assert TO_WRITE.with_(newer) == newer


@pytest.mark.parametrize(
    ("action", "channel", "text"),
    [
        ("subscribe", "room", "you may not subscribe to room"),
        ("publish", "room", "you may not publish in room"),
        ("publish", "broadcast", "you may not send broadcasts"),
        ("publish", "direct", "you may not send direct messages"),
        ("history", "room", "you may not read the history of room"),
        ("presence", "room", "you may not see who is in room"),
    ],
)
def test_an_error_names_the_action_and_the_channel(action: Action, channel: str, text: str) -> None:
    assert refused(action, channel) == text
    assert refused(action, channel, Refusal.SERVER_ONLY) == f"{text}: only the server may"
