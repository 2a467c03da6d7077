"""Findings about a certificate, by its dates and names."""

from datetime import UTC, datetime, timedelta

import pytest

from wsd.supervisor.monitoring.certificates import Certificate, findings, matches

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def certificate(*, begun: timedelta = timedelta(days=-60), left: timedelta = timedelta(days=30)) -> Certificate:
    return Certificate("2a", NOW + begun, NOW + left, ("chat.example.com", "*.example.org"))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (timedelta(days=30), ""),
        (timedelta(days=14, seconds=1), ""),
        (timedelta(days=14), "in 14 days"),
        (timedelta(days=1), "in 1 day"),
        (timedelta(hours=1), "in 0 days"),
        (timedelta(0), "expired on 2026-06-01 12:00 UTC"),
        (timedelta(days=-1), "expired on 2026-05-31 12:00 UTC"),
    ],
)
def test_a_certificate_is_a_finding_two_weeks_before_its_end(left: timedelta, expected: str) -> None:
    texts = [finding.found for finding in findings(certificate(left=left), "", NOW)]
    assert [expected in text for text in texts] == ([True] if expected else [])


def test_a_certificate_that_is_not_valid_yet_is_a_finding() -> None:
    (finding,) = findings(certificate(begun=timedelta(hours=1)), "chat.example.com", NOW)
    assert "is not valid before 2026-06-01 13:00 UTC" in finding.found


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("chat.example.com", "chat.example.com", True),
        ("Chat.Example.com", "chat.example.COM", True),
        ("*.example.com", "chat.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.chat.example.com", False),
        ("example.com", "chat.example.com", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("*.0.2.1", "192.0.2.1", False),
    ],
)
def test_names_of_certificates(name: str, host: str, expected: bool) -> None:
    assert matches(name, host) is expected
