"""Where a publisher finds the cluster."""

import pytest

from wsd.publisher.address import Address, address


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSD_URL", raising=False)
    monkeypatch.delenv("WSD_API_KEY", raising=False)


def test_the_default_is_the_port_of_a_local_cluster() -> None:
    assert address(None, None) == Address("http://127.0.0.1:8000", False, "127.0.0.1", 8000, "", "")


def test_arguments_are_stronger_than_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSD_URL", "https://example.com/live/")
    monkeypatch.setenv("WSD_API_KEY", "sesame")
    assert address(None, None) == Address("https://example.com/live/", True, "example.com", 443, "/live", "sesame")
    assert address("http://[::1]:80", "other") == Address("http://[::1]:80", False, "::1", 80, "", "other")
    assert address(None, "").api_key == ""


def test_no_key_is_shown() -> None:
    assert "sesame" not in repr(address(None, "sesame"))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ws://127.0.0.1:8000", r"the URL \(WSD_URL\) must begin with http:// or https://: 'ws://127.0.0.1:8000'"),
        ("127.0.0.1:8000", "must begin with http"),
        ("http://", "names no host"),
        ("http://u:p@host", "must contain no user and password; use WSD_API_KEY"),
        ("http://host:99999", "this is no URL"),
        ("http://host:port", "this is no URL"),
        ("http://host/a b", "must be percent-encoded"),
        ("http://host?a=1", "must end before"),
        ("http://host#a", "must end before"),
        ("http://" + "a" * 70, "this is no URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_one_line(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        address(url, None)


@pytest.mark.parametrize("key", ["a b", "a\r\nX: y", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="WSD_API_KEY") as caught:
        address(None, key)
    assert key not in str(caught.value)
