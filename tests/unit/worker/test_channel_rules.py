"""Patterns of channel names, and the user to whom a channel belongs."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsd.worker.channels.options import ChannelRules
from wsd.worker.contract.channel_rules import ChannelPattern, pattern_problem
from wsd.worker.security.authentication import Identity
from wsd.worker.security.channel_access import ChannelAccess, Refusal, refusal

OWNED = [
    "user:{user_id}:*",
    "user:{user_id}",
    "u{user_id}u*",
    "{user_id}",
    "{user_id}::x*y",
    "a.{user_id}.b",
    "x{user_id}-*-*",
]

pieces = st.sampled_from(
    ["a", "b", ":", "::", "*", ".", "user", "user:", "-", "u", "x", "y", "{user_id}", "a:b", "é", " "]
)
user_ids = st.lists(pieces, min_size=1, max_size=5).map("".join)
names = st.lists(pieces, min_size=1, max_size=9).map("".join)


@pytest.mark.parametrize(
    ("pattern", "channel", "owner"),
    [
        ("user:{user_id}:*", "user:ann:inbox", "ann"),
        ("user:{user_id}:*", "user:ann:", "ann"),
        ("user:{user_id}:*", "user:a:b:c", "a"),
        ("user:{user_id}:*", "user::inbox", ""),
        ("user:{user_id}:*", "user:*:inbox", "*"),
        ("user:{user_id}", "user:a:b", "a:b"),
        ("{user_id}", "ann", "ann"),
        ("user-{user_id}-inbox", "user-550e-8400-inbox", "550e-8400"),
        ("user-{user_id}-inbox", "user--inbox-inbox", "-inbox"),
        ("user-{user_id}-*", "user-550e-8400-x", "550e"),
        ("user/{user_id}/x/*/y", "user/ann@example.com/x/1/y", "ann@example.com"),
        ("user:*", "user:ann", None),
    ],
)
def test_a_channel_belongs_to_the_user_that_its_name_says(pattern: str, channel: str, owner: str | None) -> None:
    assert ChannelPattern(pattern).matches(channel)
    assert ChannelPattern(pattern).owner(channel) == owner


@pytest.mark.parametrize("stars", [1, 5, 50])
def test_a_name_that_nearly_matches_is_compared_at_once(stars: int) -> None:
    nearly = ChannelPattern("*:" * stars + "*x")
    assert not nearly.matches(":" * 255)
    assert nearly.matches(":" * 254 + "x")


@given(
    pattern=st.text("ab*", min_size=1, max_size=8).filter(lambda text: pattern_problem(text) is None),
    name=st.text("ab", max_size=8),
)
def test_a_star_stands_for_any_text(pattern: str, name: str) -> None:
    assert ChannelPattern(pattern).matches(name) == fnmatchcase(name, pattern)


def filled(pattern: str, user_id: str, text: str) -> str:
    """Write a user id and a text in the places of a pattern."""
    before, _, after = pattern.partition("{user_id}")
    return before + user_id + after.replace("*", text)


@given(pattern=st.sampled_from(OWNED), channel=names)
def test_a_pattern_with_a_user_matches_what_it_matches_with_a_star(pattern: str, channel: str) -> None:
    assert ChannelPattern(pattern).matches(channel) == ChannelPattern(pattern.replace("{user_id}", "*")).matches(
        channel
    )


@given(pattern=st.sampled_from(OWNED), one=user_ids, other=user_ids, text=names)
@example(pattern="user:{user_id}:*", one="a", other="a:b", text="b:c")
@example(pattern="user:{user_id}:*", one="a:b", other="a", text="c")
@example(pattern="user:{user_id}:*", one="*", other="ann", text="x")
@example(pattern="user:{user_id}:*", one="ann", other="*", text="x")
@example(pattern="user:{user_id}:*", one="ann", other="{user_id}", text="x")
@example(pattern="user:{user_id}:*", one="ann", other=".*", text="x")
@example(pattern="user:{user_id}:*", one="ann", other="an", text="x")
def test_no_two_users_may_use_one_channel(pattern: str, one: str, other: str, text: str) -> None:
    channel = filled(pattern, one, text)
    assert ChannelPattern(pattern).matches(channel)
    access = ChannelAccess(owner=ChannelPattern(pattern).owner(channel))
    assert len([user for user in {one, other} if refusal(access, Identity(user), "subscribe") is None]) <= 1


@given(pattern=st.sampled_from(OWNED), user_id=user_ids, text=names)
def test_a_user_may_use_the_channels_with_its_id_unless_the_id_holds_the_text_after_it(
    pattern: str, user_id: str, text: str
) -> None:
    after, star, _ = pattern.partition("{user_id}")[2].partition("*")
    is_certain = not star or (user_id + after).find(after) == len(user_id)
    assert (ChannelPattern(pattern).owner(filled(pattern, user_id, text)) == user_id) == is_certain


@pytest.mark.parametrize("user_id", ["broadcast", "direct", "ann"])
def test_the_channels_of_all_and_of_one_user_belong_to_no_user(user_id: str) -> None:
    rules = ChannelRules('{"{user_id}": {}}')
    for name in ("broadcast", "direct"):
        assert refusal(rules.access(name), Identity(user_id), "publish") is Refusal.OTHER_USER


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("user:{user_id}:*", None),
        ("*", None),
        ("a" * 255, None),
        ("a" * 256, "may hold only"),
        ("", "may hold only"),
        ("room 1", "may hold only"),
        ("user:{user}:*", "may hold only"),
        ("user:{user_id", "may hold only"),
        ("{user_id}:{user_id}", "only once"),
        ("*:{user_id}", "only after"),
        ("user:{user_id}*", "another character between"),
    ],
)
def test_a_pattern_that_leaves_the_owner_open_is_refused(pattern: str, problem: str | None) -> None:
    found = pattern_problem(pattern)
    assert (found is None) == (problem is None)
    if problem is not None:
        assert problem in str(found)
        with pytest.raises(ValueError, match=r"channels\."):
            ChannelRules(f'{{"{pattern}": {{}}}}')


def test_of_two_patterns_the_one_with_a_user_applies() -> None:
    for text in ('{"u:*": {}, "u:{user_id}": {}}', '{"u:{user_id}": {}, "u:*": {}}'):
        assert ChannelRules(text).access("u:ann").owner == "ann"


def test_the_rules_of_a_channel_are_those_of_the_most_exact_pattern() -> None:
    rules = ChannelRules('{"*": {"allow_publish": "server"}, "chat:*": {"allow_subscribe": "authenticated"}}')
    assert rules.access("news") == ChannelAccess(publish="server")
    assert rules.access("chat:1") == ChannelAccess(subscribe="authenticated")
    assert rules.access("broadcast").publish == "server"


def test_clients_may_be_kept_from_broadcasts_and_from_direct_messages() -> None:
    assert ChannelRules().access("broadcast") == ChannelRules().access("direct") == ChannelAccess()
    rules = ChannelRules(client_broadcasts=False)
    assert (rules.access("broadcast").publish, rules.access("direct").publish) == ("server", "anyone")
    rules = ChannelRules('{"direct": {"allow_publish": "anyone"}}', client_directs=False)
    assert (rules.access("broadcast").publish, rules.access("direct").publish) == ("anyone", "server")


@pytest.mark.parametrize("channel", ["~chat", "=chat", "!ann", "room 1", ""])
def test_a_channel_that_no_client_can_name_has_no_rules(channel: str) -> None:
    rules = ChannelRules('{"*": {"allow_publish": "server", "allow_subscribe": "nobody"}}')
    assert rules.access(channel) == ChannelAccess()
    assert not rules.open_to_publish(channel)
