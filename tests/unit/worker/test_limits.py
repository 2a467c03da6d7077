import pytest

from wsd.worker.security.limits import TokenBucket, origin_allowed


def test_a_bucket_is_full_at_first_and_fills_at_its_rate() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=10)
    assert [bucket.take(10) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait(10) == 0.5
    assert [bucket.take(10.5), bucket.take(10.5)] == [True, False]
    assert [bucket.take(20) for _ in range(4)] == [True, True, True, False], "never more than its burst"


def test_a_debt_of_the_bucket_has_to_be_paid_before_the_next_token() -> None:
    bucket = TokenBucket(rate=10, burst=20, now=0)
    bucket.owe(0, 25)
    assert not bucket.take(0.5)
    assert bucket.take(0.7)


def test_tokens_beyond_a_full_bucket_are_owed() -> None:
    bucket = TokenBucket(rate=10, burst=20, now=0)
    assert [bucket.take(0, 15), bucket.take(0, 6), bucket.take(0, 5), bucket.take(0, 0)] == [True, False, True, True]
    assert [bucket.take(1.9, 50), bucket.take(2, 50)] == [False, True]
    assert bucket.wait(2) == pytest.approx(3.1)
    assert [bucket.take(5, 1), bucket.take(5.2, 1)] == [False, True]


def test_a_rate_may_be_below_one_a_second() -> None:
    bucket = TokenBucket(rate=0.1, burst=1, now=0)
    assert bucket.take(0)
    assert bucket.wait(4) == pytest.approx(6)
    assert not bucket.take(9.9)
    assert bucket.take(10)


def test_a_clock_that_steps_back_neither_gives_nor_takes() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=100)
    assert bucket.take(100)
    assert bucket.take(50)
    assert not bucket.take(50)
    assert not bucket.take(100.5)
    assert bucket.take(101)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 5)])
def test_a_bucket_that_never_has_a_token_is_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        TokenBucket(rate, burst, 0)


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        (None, "a.example", [], True),  # no browser
        ("https://a.example", "a.example", [], True),
        ("http://a.example:80", "a.example", [], True),
        ("https://A.Example", "a.example:443", [], True),
        ("http://localhost:8000", "localhost:8000", [], True),
        ("http://localhost:8001", "localhost:8000", [], False),
        ("http://[::1]:8000", "[::1]:8000", [], True),
        ("http://[::1]", "[::1]", [], True),
        ("https://evil.example", "a.example", [], False),
        ("https://a.example.evil.example", "a.example", [], False),
        ("null", "a.example", [], False),
        ("", "a.example", [], False),
        ("", "", [], False),
        ("file://", "", [], False),
        ("https://[broken", "a.example", [], False),
        ("https://evil.example", "a.example", ["*"], True),
        ("https://a.example", "a.example", ["https://b.example"], False),
        ("https://b.example:443", "a.example", ["https://B.example"], True),
        ("http://b.example", "a.example", ["https://b.example"], False),
        ("https://x.b.example", "a.example", ["https://*.b.example"], True),
        ("https://x.y.b.example", "a.example", ["https://*.b.example"], True),
        ("https://b.example", "a.example", ["https://*.b.example"], False),
        ("https://evilb.example", "a.example", ["https://*.b.example"], False),
        ("https://.b.example", "a.example", ["https://*.b.example"], False),
        ("null", "a.example", ["null"], True),
    ],
)
def test_allowed_origins_are_patterns(origin: str | None, host: str, allowed: list[str], expected: bool) -> None:
    assert origin_allowed(origin, host, allowed) is expected


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        ("http://a.example", "a.example", "http", True),
        ("https://a.example", "a.example", "https", True),
        ("http://a.example", "a.example", "https", False),  # whoever changed the page on its way would be in
        ("http://a.example:443", "a.example", "https", False),
        ("http://a.example:443", "a.example:443", "https", False),
        ("https://a.example", "a.example", "http", True),  # behind a proxy that ends TLS
        ("https://a.example:8443", "a.example:8443", "https", True),
        ("https://a.example", "a.example:8443", "https", False),
        ("https://a.example:8443", "a.example", "https", False),
        ("https://a.example:443", "A.EXAMPLE", "https", True),
        ("HTTPS://[::1]:8443", "[::1]:8443", "https", True),
        ("https://a.example.", "a.example", "https", False),  # browsers take it for another site, too
        ("https://a.example@evil.example", "evil.example", "https", False),
        ("https://evil.example@a.example", "a.example", "https", False),
        ("https://a.example/", "a.example", "https", False),
        ("https://a.example:99999999", "a.example", "https", False),
        ("https://a.example", "a.example@evil.example", "https", False),
        ("https://a.example", "", "https", False),
        ("ftp://a.example", "a.example", "http", False),
        ("null", "null", "https", False),
        (None, "a.example", "https", True),
    ],
)
def test_the_same_origin_is_scheme_host_and_port(origin: str | None, host: str, scheme: str, expected: bool) -> None:
    assert origin_allowed(origin, host, [], scheme) is expected


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example\\.b.example",
        "https://evil.example#.b.example",
        "https://u@x.b.example",
        "https://*.b.example",
    ],
)
def test_text_that_is_not_an_origin_matches_no_pattern(origin: str) -> None:
    assert not origin_allowed(origin, "a.example", ["https://*.b.example"])
