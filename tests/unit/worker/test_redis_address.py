"""URLs that name Sentinels: what they mean, and one clear line for each that is malformed."""

import pytest

from wsd.worker.contract.redis_address import SentinelAddress, sentinel_address, shown


@pytest.mark.parametrize(
    ("url", "address", "server"),
    [
        (
            "redis+sentinel://a:1,b:2/chat",
            SentinelAddress((("a", 1), ("b", 2)), "chat", False, "", "", ""),
            "redis://h:6379",
        ),
        (
            "rediss+sentinel://user:p%40w@a,[::1]:7/my.master-1_x/3?ssl_cert_reqs=none",
            SentinelAddress(
                (("a", 26379), ("::1", 7)), "my.master-1_x", True, "user:p%40w@", "3", "?ssl_cert_reqs=none"
            ),
            "rediss://user:p%40w@h:6379/3?ssl_cert_reqs=none",
        ),
        (
            "redis+sentinel://:p@w,x:y@10.0.0.1:26379/chat/0?client_name=wsd",
            SentinelAddress((("10.0.0.1", 26379),), "chat", False, ":p@w,x:y@", "0", "?client_name=wsd"),
            "redis://:p@w,x:y@h:6379/0?client_name=wsd",
        ),
        ("redis+sentinel://a/chat/", SentinelAddress((("a", 26379),), "chat", False, "", "", ""), "redis://h:6379"),
    ],
)
def test_a_url_names_sentinels_and_a_primary(url: str, address: SentinelAddress, server: str) -> None:
    assert sentinel_address(url) == address
    assert address.server_url(("h", 6379)) == server


@pytest.mark.parametrize("url", ["redis://h:1/0", "rediss://h", "unix:///run/x.sock", "", "sentinel", "http://a/b"])
def test_another_url_names_no_sentinels(url: str) -> None:
    assert sentinel_address(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis+sentinel://", "has an empty host"),
        ("redis+sentinel:///chat", "has an empty host"),
        ("redis+sentinel://a:1,/chat", "has an empty host"),
        ("redis+sentinel://a:1,,b:2/chat", "has an empty host"),
        ("redis+sentinel://:pw@/chat", "has an empty host"),
        ("redis+sentinel://a:1", "must name the primary"),
        ("redis+sentinel://a:1/", "must name the primary"),
        ("redis+sentinel://a:1//0", "must name the primary"),
        ("redis+sentinel://a:1/my chat", "must name the primary"),
        ("redis+sentinel://a:1/ch%20at", "must name the primary"),
        ("redis+sentinel://a:1/chat/x", "must have the number of a database"),
        ("redis+sentinel://a:1/chat/0/0", "must have the number of a database"),
        ("redis+sentinel://a:1/chat/-1", "must have the number of a database"),
        ("redis+sentinel://a:0/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://a:65536/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://a:x/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://a:/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://a:1:2/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://::1/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://[::1/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://a b:1/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://a:\u0661/chat", "has a Sentinel that is not host:port"),
        ("redis+sentinel://:pw/x@a:1/chat", "has a password with / or #"),
        ("redis+sentinel://:pw#x@a:1/chat", "has a password with / or #"),
        ("redis+sentinel://:pw?x@a:1/chat", "has a password with ?"),
    ],
)
def test_a_malformed_url_has_one_problem_without_its_parts(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^has |^must ") as refused:
        sentinel_address(url)
    assert str(refused.value).startswith(problem)
    assert "pw" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_places_are_shown_with_ipv6_in_brackets() -> None:
    assert [shown(("h", 1)), shown(("::1", 2))] == ["h:1", "[::1]:2"]
