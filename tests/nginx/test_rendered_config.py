"""The rendered text: right for every setting, to nginx itself and to a linter."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.nginx import Certificate, config
from wsd.supervisor import quoting
from wsd.supervisor.config.settings import NginxConfig
from wsd.supervisor.machine.ports import listen_address
from wsd.supervisor.services.nginx_config import affinity, is_loopback, render, share_of_one
from wsd.supervisor.services.nginx_program import check, own_user, version_of

HOSTS = ["127.0.0.1", "0.0.0.0", "::1", "[::]", "localhost"]
LIMITS: list[dict[str, Any]] = [
    {},
    {"handshakes_per_second": 10},
    {"max_connections_per_address": 5},
    {"handshakes_per_second": 10, "max_connections_per_address": 5},
    {"handshakes_per_second_per_address": 0},
]
PROXIES: list[dict[str, Any]] = [{}, {"trusted_proxies": ["10.0.0.0/8", "::1", "192.0.2.1"]}]
TLS: list[dict[str, Any]] = [{}, {"tls": True}, {"tls": True, "tls_redirect_port": 8080}]
CASES = [{**a, **b, **c} for a, b, c in itertools.product(LIMITS, PROXIES, TLS)]
SETTINGS: list[dict[str, Any]] = [
    {"affinity": "ip"},
    {"affinity": "least_conn"},
    {"debug_headers": True},
    {"access_log": True},
    {"workers": 4},
    {"max_body_bytes": 0},
    {"handshakes_per_second": 1, "handshake_burst": 0},
    {"handshake_burst_per_address": 0},
    {"server_name": "chat.example.com"},
    {"max_header_bytes": 1_048_576},
    {"worker_connections": 64},
    {"tls": True, "hsts_seconds": 0},
    {"tls": True, "http2": False},
    {"tls": True, "tls_redirect_port": 8080, "acme_webroot": '/var/www/"it s"'},
    {"trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": True},
    {"tls": True, "tls_redirect_port": 8080, "trusted_proxies": ["10.0.0.0/8"], "proxy_protocol": True},
]


def refusal(
    binary: Path, directory: Path, certificate: Certificate, host: str = "127.0.0.1", workers: int = 2, **nginx: Any
) -> str | None:
    """Return what `nginx -t` says against a configuration with these settings, and None if it accepts it."""
    if nginx.pop("tls", False):
        nginx |= {"tls_certificate": certificate.path, "tls_key": certificate.key}
    sockets = [directory / f"worker-{number}.sock" for number in range(workers)]
    text = render(
        config(host=host, **nginx),
        prefix=directory,
        sockets=sockets,
        control=directory / "control.sock",
        user=own_user(),
        version=version_of(binary),
    )
    path = directory / "nginx.conf"
    path.write_text(text)
    return check(binary, path, directory)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case) or "defaults")
def test_nginx_accepts_limits_proxies_and_tls(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate, case: dict[str, Any]
) -> None:
    assert refusal(nginx_binary, tmp_path, certificate, **case) is None


@pytest.mark.parametrize("setting", SETTINGS, ids="-".join)
def test_nginx_accepts_every_setting(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate, setting: dict[str, Any]
) -> None:
    assert refusal(nginx_binary, tmp_path, certificate, **setting) is None


def test_a_mistake_in_the_operators_own_directives_is_shown_with_its_place(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate
) -> None:
    own = tmp_path / "own.conf"
    own.write_text("location /x {\n    nonsense on;\n}\n")
    problem = refusal(nginx_binary, tmp_path, certificate, include=str(own))
    assert problem is not None
    assert f'unknown directive "nonsense" in {own}:2' in problem
    missing = refusal(nginx_binary, tmp_path, certificate, include=f"{own}.missing")
    assert missing is not None
    assert f"{own}.missing" in missing


@pytest.mark.parametrize("host", HOSTS)
def test_nginx_accepts_every_host(nginx_binary: Path, tmp_path: Path, certificate: Certificate, host: str) -> None:
    assert refusal(nginx_binary, tmp_path, certificate, host=host) is None


@pytest.mark.parametrize("workers", [1, 256])
def test_nginx_accepts_few_and_many_workers(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate, workers: int
) -> None:
    assert refusal(nginx_binary, tmp_path, certificate, workers=workers) is None


@pytest.mark.parametrize("name", ["with space", 'quo"te', "semi;colon", "bra{ce", "back\\slash", "ünï", "#hash"])
def test_nginx_accepts_any_directory(nginx_binary: Path, tmp_path: Path, certificate: Certificate, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    assert refusal(nginx_binary, directory, certificate, access_log=True) is None
    assert (directory / "client_body").is_dir()


def test_start_check_prints_each_problem_on_one_line(nginx_binary: Path, tmp_path: Path) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text("events {}\nnonsense on;\n")
    problem = check(nginx_binary, path, tmp_path)
    assert problem is not None
    assert 'unknown directive "nonsense"' in problem
    assert "\n" not in problem


@pytest.mark.parametrize("key", sorted({*NginxConfig.__struct_fields__} - {"enabled", "binary", "admin_hosts"}))
def test_every_key_reaches_the_text(key: str, tmp_path: Path) -> None:
    tls: dict[str, Any] = {"tls_certificate": "/c", "tls_key": "/k"} if key.startswith("tls_") else {}
    if key in ("hsts_seconds", "http2", "acme_webroot"):
        tls = {"tls_certificate": "/c", "tls_key": "/k", "tls_redirect_port": 77}
    if key == "proxy_protocol":
        tls = {"trusted_proxies": ["192.0.2.7"]}
    limits = {"handshakes_per_second": 7} if key == "handshake_burst" else {}
    value = getattr(NginxConfig(), key)
    if key == "server_name":
        tls = {"tls_certificate": "/c", "tls_key": "/k", "tls_redirect_port": 77}
    changed: Any = {bool: True, int: 99, tuple: ["192.0.2.7"]}.get(type(value), "/changed.pem")
    if key == "http2":
        changed = False
    if key == "affinity":
        changed = "ip"
    if key == "max_header_bytes":
        changed = 9999

    def text(**nginx: Any) -> str:
        return render(
            config(**{**tls, **limits, **nginx}),
            prefix=tmp_path,
            sockets=[tmp_path / "a.sock"],
            control=tmp_path / "c.sock",
        )

    assert text(**{key: changed}) != text(), key
    if not isinstance(changed, bool):
        shown = changed[0] if isinstance(changed, list) else "ip_hash" if key == "affinity" else str(changed)
        assert shown in text(**{key: changed})


@pytest.mark.parametrize(
    ("configured", "host", "expected"),
    [
        ("auto", "127.0.0.1", "least_conn"),
        ("auto", "127.1.2.3", "least_conn"),
        ("auto", "localhost", "least_conn"),
        ("auto", "::1", "least_conn"),
        ("auto", "[::1]", "least_conn"),
        ("auto", "0.0.0.0", "ip"),
        ("auto", "::", "ip"),
        ("auto", "192.0.2.1", "ip"),
        ("ip", "127.0.0.1", "ip"),
        ("least_conn", "0.0.0.0", "least_conn"),
    ],
)
def test_affinity_is_by_address_unless_all_share_one(configured: str, host: str, expected: str) -> None:
    assert affinity(configured, host) == expected


@pytest.mark.parametrize(
    ("of_one", "of_all", "expected"), [(100, 0, 100), (0, 0, 0), (0, 50, 0), (100, 50, 12), (3, 50, 3), (100, 1, 1)]
)
def test_one_address_gets_a_share_of_a_limit(of_one: int, of_all: int, expected: int) -> None:
    assert share_of_one(of_one, of_all) == expected


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", "127.0.0.1:80"), ("::", "[::]:80"), ("[::1]", "[::1]:80"), ("h", "h:80")]
)
def test_an_address_to_listen_on(host: str, expected: str) -> None:
    assert listen_address(host, 80) == expected
    assert not is_loopback("0.0.0.0")


def test_strings_are_quoted_for_nginx_and_systemd() -> None:
    assert quoting.nginx(Path("/a b")) == '"/a b"'
    assert quoting.nginx('a"b\\c') == r'"a\"b\\c"'


@pytest.mark.parametrize("case", [CASES[0], CASES[-1], {"access_log": True, "debug_headers": True, "affinity": "ip"}])
def test_the_linter_finds_nothing_that_matters(tmp_path: Path, certificate: Certificate, case: dict[str, Any]) -> None:
    nginx = dict(case)
    if nginx.pop("tls", False):
        nginx |= {"tls_certificate": certificate.path, "tls_key": certificate.key}
    path = tmp_path / "nginx.conf"
    path.write_text(
        render(config(**nginx), prefix=tmp_path, sockets=[tmp_path / "worker-1.sock"], control=tmp_path / "c.sock")
    )
    gixy = Path(sys.executable).with_name("gixy")
    result = subprocess.run([gixy, "-ll", "-f", "json", path], capture_output=True, text=True)
    findings = json.loads(result.stdout)
    assert findings == [], json.dumps(findings, indent=2)
    assert msgspec.structs.asdict(config(**nginx).nginx)["enabled"]
