"""`wsd doctor` on settings that let strangers do more than they should."""

from pathlib import Path

import pytest

from wsd.supervisor.config.loading import load
from wsd.supervisor.doctor.exposure import account, exposure, readable, risks

GOOD = """
[cluster]
host = "0.0.0.0"
[nginx]
trusted_proxies = ["10.0.0.1"]
max_connections_per_address = 100
[security]
jwt_secret = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
authorize = "chat:may"
"""


def found(directory: Path, text: str) -> set[str]:
    path = directory / "wsd.toml"
    path.write_text(text)
    return {finding.check for finding in risks(load({}, {}, str(path)).config)}


@pytest.mark.parametrize(
    ("before", "after", "checks"),
    [
        ("", "", set()),
        ('jwt_secret = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"', "", {"authentication"}),
        ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", "secret", {"security.jwt_secret"}),
        ("0f1e2d3c4b5a69788796a5b4c3d2e1f0", "a" * 64, {"security.jwt_secret"}),
        ("[security]", '[security]\napi_key = "key"', {"security.api_key"}),
        ("[security]", '[api_keys.a]\nkey = "key"\nrights = ["publish"]\n[security]', {"api_keys.a.key"}),
        ("[security]", '[dashboard]\ntoken = "1234"\n[security]', {"dashboard.token"}),
        ("[cluster]", '[cluster]\ncluster_key = "aaaaaaaaaaaaaaaaaaaa"', {"cluster.cluster_key"}),
        ("[security]", '[security]\nallowed_origins = ["https://a.example", "*"]', {"security.allowed_origins"}),
        ("[security]", '[security]\nallowed_origins = ["null"]', {"security.allowed_origins"}),
        ('trusted_proxies = ["10.0.0.1"]', "", {"TLS"}),
        ("10.0.0.1", "0.0.0.0/0", {"nginx.trusted_proxies"}),
        ("10.0.0.1", "::/0", {"nginx.trusted_proxies"}),
        ("[nginx]", '[nginx]\nadmin_allow = ["0.0.0.0/0"]', {"nginx.admin_allow"}),
        ("max_connections_per_address = 100", "", {"connections"}),
        ("[nginx]", "[nginx]\nenabled = false", {"nginx"}),
        ("[security]", "[security]\nmessages_per_second = 0", {"messages"}),
        ("[security]", "[security]\nbytes_per_second = 0", {"messages"}),
        ("[security]", '[redis]\nurl = "redis://cache.internal"\n[security]', {"redis.url"}),
        ("[security]", '[redis]\nurl = "redis://:pw@cache.internal"\n[security]', {"redis.url"}),
        ("[security]", '[redis]\nurl = "rediss://:pw@cache.internal"\n[security]', set()),
        ("[security]", '[redis]\nurl = "redis://127.0.0.1"\n[security]', set()),
    ],
)
def test_a_risky_setting_is_named(tmp_path: Path, before: str, after: str, checks: set[str]) -> None:
    assert found(tmp_path, GOOD.replace(before, after, 1) if before else GOOD) == checks


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_cluster_on_loopback_needs_no_protection(tmp_path: Path, host: str) -> None:
    assert found(tmp_path, f'[cluster]\nhost = "{host}"\n') == set()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_a_cluster_beyond_this_machine_needs_authentication(tmp_path: Path, host: str) -> None:
    assert found(tmp_path, f'[cluster]\nhost = "{host}"\n') == {"authentication", "TLS", "connections"}


def test_an_application_authenticates_by_itself(tmp_path: Path) -> None:
    assert "authentication" not in found(tmp_path, '[cluster]\nhost = "0.0.0.0"\napp = "chat:app"\n')


def test_root_is_a_warning() -> None:
    assert [finding.check for finding in account(0)] == ["user"]
    assert list(account(1000)) == []


@pytest.mark.parametrize(("mode", "count"), [(0o644, 1), (0o604, 1), (0o640, 0), (0o600, 0)])
def test_a_file_with_a_secret_that_all_may_read_is_a_warning(tmp_path: Path, mode: int, count: int) -> None:
    path = tmp_path / "wsd.toml"
    path.write_text('[security]\napi_key = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"\n')
    path.chmod(mode)
    assert len(list(readable(path))) == count
    assert sum(each.check == "wsd.toml" for each in exposure(load({}, {}, str(path)))) == count


def test_a_file_without_a_secret_may_be_read(tmp_path: Path) -> None:
    path = tmp_path / "wsd.toml"
    path.write_text('[cluster]\nport = 8001\n[security]\napi_key = ""\n[dashboard]\ntoken = ""\n')
    path.chmod(0o644)
    assert all(each.check != "wsd.toml" for each in exposure(load({}, {}, str(path))))
