"""Quoted paths and names, as the real programs read them back."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from redis.connection import parse_url

from tests.support.nginx import CERTIFICATE_NAMES, Certificate, config
from wsd.supervisor import new_files, quoting
from wsd.supervisor.config.addresses import is_network
from wsd.supervisor.config.layers import Setting
from wsd.supervisor.config.loading import build, load
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.services.nginx_config import render, render_for
from wsd.supervisor.services.nginx_program import check, find_binary, own_user
from wsd.supervisor.state_dir.directory import StateDir

NAMES = [
    b"plain",
    b"with space",
    b" spaces around ",
    b"do$lar",
    b"do${lar}",
    b"per%cent%n%2F",
    b'quo"te',
    b"apos'trophe",
    b"both'\"",
    b"back\\slash\\",
    b"semi;colon{brace}",
    b"#hash?question[bracket]",
    b"new\nline\r\ttab",
    b"\x1b[31mred",
    b"not-utf8-\xff\xfe",
    "ünï-日本".encode(),
    b"-dash",
    b"`command`$(x)&|<>*",
    b"x" * 200,
]


@pytest.fixture(params=NAMES, ids=repr)
def name(request: pytest.FixtureRequest) -> str:
    return os.fsdecode(request.param)


def test_a_client_of_redis_reads_back_a_url(name: str) -> None:
    path = Path("/run") / name
    found = parse_url(quoting.unix_url(path))["path"]  # type: ignore[no-untyped-call]
    assert os.fsencode(found.encode("utf-8", "surrogateescape")) == os.fsencode(path) or "\ufffd" in found


def test_sockets_are_in_a_plain_place(name: str, tmp_path: Path) -> None:
    for path in (StateDir(tmp_path / name).valkey_socket, StateDir(tmp_path / name).worker_socket(999, 99_999_999)):
        assert quoting.PLAIN.fullmatch(str(path))
        assert len(str(path)) <= 107


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"), CERTIFICATE_NAMES)


def test_nginx_finds_its_files_in_any_directory(name: str, tmp_path: Path, certificate: Certificate) -> None:
    binary = find_binary("")
    assert binary is not None
    prefix = tmp_path / name / ".wsd" / "nginx"
    prefix.mkdir(parents=True)
    paths = [tmp_path / name / file for file in ("cert.pem", "key.pem")]
    for source, path in zip((certificate.path, certificate.key), paths, strict=True):
        shutil.copy(source, path)
    settings = config(tls_certificate=str(paths[0]), tls_key=str(paths[1]), access_log=True)
    text = render(settings, prefix=prefix, sockets=[], control=Path("/c.sock"), user=own_user())
    written = prefix / "nginx.conf"
    for line in ("least_conn;", "hash $publisher consistent;"):  # no upstream may be without a server
        text = text.replace(line, f"{line} server 127.0.0.1:1;")
    written.write_text(text, "utf-8", "surrogateescape")
    assert check(binary, written, prefix) is None
    assert (prefix / "client_body").is_dir()
    assert (prefix / "access.log").exists()


def test_a_configuration_passes_its_check_where_nginx_cannot_be_told_the_directory(
    tmp_path: Path, certificate: Certificate
) -> None:
    directory = tmp_path / "do$lar \udcff"
    directory.mkdir()
    shutil.copy(certificate.path, directory / "cert.pem")
    shutil.copy(certificate.key, directory / "key.pem")
    settings = directory / "wsd.toml"
    settings.write_text('[nginx]\ntls_certificate = "cert.pem"\ntls_key = "key.pem"\n')
    text = render_for(load({}, {}, str(settings)), with_check=True)
    assert 'ssl_certificate "../../cert.pem";' in text


def test_a_certificate_path_that_nginx_cannot_quote_is_refused(tmp_path: Path) -> None:
    settings = config(tls_certificate=str(tmp_path / "a$b.pem"), tls_key="/k")
    with pytest.raises(ConfigError, match=r'nginx.tls_certificate holds a dollar sign.*a\$b.pem": use another name'):
        render(settings, prefix=tmp_path / ".wsd", sockets=[Path("/s")], control=Path("/c"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_a_unit_for_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = []
    for number, raw in enumerate(NAMES):
        directory = tmp_path / os.fsdecode(raw)
        directory.mkdir()
        program = directory / "wsd"
        program.symlink_to("/bin/true")
        monkeypatch.setattr(new_files, "command", lambda program=program: [str(program)])
        unit = tmp_path / f"unit{number}.service"
        text = new_files.service(directory)
        assert text.count("\n[Service]\n") == 1
        unit.write_text(text, "utf-8")
        units.append(unit)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("directory", "settings"),
    [
        ("/srv/chat", ["WorkingDirectory=/srv/chat", "ExecStart=/bin/wsd start", "ReadWritePaths=/srv/chat/.wsd"]),
        (
            "/srv/a b%c$d",
            [
                "WorkingDirectory=/srv/a b%%c$d",
                'Environment="PWD=/srv/a b%%c$d"',
                "ReadWritePaths='/srv/a b%%c$d/.wsd'",
            ],
        ),
        ("/srv/it's", ["WorkingDirectory=/srv/it's", 'ReadWritePaths="/srv/it\'s/.wsd"']),
        (
            "/srv/a\nb$",
            ['ExecStart=/usr/bin/env -C "/srv/a\\x0ab$$" "PWD=/srv/a\\x0ab$$" /bin/wsd start', "ProtectSystem=full"],
        ),
        ("/srv/\udcff%", ['ExecReload=/usr/bin/env -C "/srv/\\xff%%" "PWD=/srv/\\xff%%" /bin/wsd reload']),
        (
            "/srv/x ",
            ['ExecStart=/usr/bin/env -C "/srv/x " "PWD=/srv/x " /bin/wsd start', "ReadWritePaths='/srv/x /.wsd'"],
        ),
    ],
)
def test_a_unit_names_the_directory(directory: str, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_files, "command", lambda: ["/bin/wsd"])
    lines = new_files.service(Path(directory)).split("\n")
    assert set(settings) <= set(lines)


def test_the_name_of_a_unit_is_one(name: str) -> None:
    line = new_files.service(Path("/srv") / name).split("\n")[1]
    assert line.removesuffix(".service").rpartition("/")[2].replace("-", "").replace("_", "").isalnum()
    assert "/-" not in line


@pytest.mark.parametrize(
    "text", ["fe80::1%a; deny all", "10.0.0.0/0.0.0.255", "1.2.3.4;", "1.2.3.4\n", "$x", "", "::1/129", "10.0.0.0/8/8"]
)
def test_text_that_is_not_a_network_is_refused(text: str) -> None:
    assert not is_network(text)
    with pytest.raises(ConfigError, match=r"wsd\.toml: nginx\.admin_allow must hold addresses or networks"):
        build({("nginx", "admin_allow"): Setting([text], "wsd.toml")})


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.1.2.3/8", "192.0.2.1", "::1", "2001:db8::/32", "0.0.0.0/0"])
def test_addresses_and_networks_are_accepted(text: str) -> None:
    assert is_network(text)


@pytest.mark.parametrize(
    "text", ["a b.example", "a;b", "a.example/", "$host", "a.example\n", "a.example:1", ".", "a..b"]
)
def test_a_server_name_is_a_host_name(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r'wsd\.toml: nginx\.server_name must be a host name like "chat\.example\.com"'
    ):
        build({("nginx", "server_name"): Setting(text, "wsd.toml")})


@pytest.mark.parametrize(
    "key", [("cluster", "state_dir"), ("redis", "url"), ("security", "jwt_secret"), ("nginx", "binary")]
)
def test_no_setting_holds_a_zero_byte(key: tuple[str, str]) -> None:
    value = tomllib.loads('a = "redis://a\\u0000b"')["a"]
    with pytest.raises(ConfigError, match="must not hold a zero byte"):
        build({key: Setting(value, "wsd.toml")})
