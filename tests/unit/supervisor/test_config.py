"""The configuration: four layers, one tree, and errors that name the value, the place and the way out."""

import os
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wsd.supervisor.config.addresses import host_problem
from wsd.supervisor.config.display import changes, describe
from wsd.supervisor.config.environment import env_name
from wsd.supervisor.config.keys import BYTE_KEYS, SECRET_KEYS, all_keys
from wsd.supervisor.config.layers import Setting
from wsd.supervisor.config.loading import build, current_directory, load
from wsd.supervisor.config.redis_url import redacted, redis_url_problem
from wsd.supervisor.config.settings import ApiKeyConfig, ChannelConfig, Config
from wsd.supervisor.config.toml_file import MAX_FILE_BYTES
from wsd.supervisor.config.wording import MAX_SHOWN_LENGTH
from wsd.supervisor.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "wsd.toml") -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text, "utf-8")


def option(value: str) -> Setting:
    return Setting(value, "--port", is_text=True)


def problem_of(text: str = "", environ: dict[str, str] | None = None) -> str:
    write(text)
    with pytest.raises(ConfigError) as raised:
        load({}, environ or {}, None)
    return str(raised.value)


def test_wsd_toml_at_the_root_documents_every_key_with_its_default() -> None:
    document = tomllib.loads((ROOT / "wsd.toml").read_text("utf-8"))
    assert tuple(document.pop("channels")["*"]) == ChannelConfig.__struct_fields__
    assert [(section, key) for section, keys in document.items() for key in keys] == list(all_keys())
    assert load({}, {}, str(ROOT / "wsd.toml")).config == Config()


def test_each_layer_covers_the_one_below() -> None:
    assert load({}, {}, None).config.cluster.port == 8000
    write("[cluster]\nport = 1\n")
    assert load({}, {}, None).config.cluster.port == 1
    assert load({}, {"WSD_PORT": "2"}, None).config.cluster.port == 2
    both = load({("cluster", "port"): option("3")}, {"WSD_PORT": "2"}, None)
    assert both.config.cluster.port == 3
    assert both.sources == {("cluster", "port"): "--port"}


def test_the_configuration_describes_itself_as_toml_with_sources() -> None:
    write('[cluster]\nworkers = 2\n[nginx]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\ndebug_headers = true\n')
    lines = list(describe(load({}, {"REDIS_URL": "redis://:secret@h:1/0"}, None)))
    assert "workers = 2  # wsd.toml line 2" in lines
    assert 'trusted_proxies = ["10.0.0.0/8", "::1"]  # wsd.toml line 4' in lines
    assert "debug_headers = true  # wsd.toml line 5" in lines
    assert 'url = "redis://:***@h:1/0"  # REDIS_URL' in lines
    assert "port = 8000  # default" in lines
    values = tomllib.loads("\n".join(lines))
    assert tuple(values.pop("channels")["*"]) == ChannelConfig.__struct_fields__
    assert [(section, key) for section in values for key in values[section]] == list(all_keys())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[channels."a b"]\nhistory_size = 1\n',
            'wsd.toml line 1: channels."a b" may hold only A-Z a-z 0-9 _ . : @ / # -, "*" for any of them, and "{user',
        ),
        (
            '[channels."a"]\nallow_publish = "sever"\n',
            'wsd.toml line 2: channels."a".allow_publish must be one of "anyone", "authenticated", "nobody", "server", '
            '"token", got "sever"',
        ),
        (
            '[channels."a"]\nallow_publsh = "server"\n',
            'wsd.toml line 2: unknown key channels."a".allow_publsh, did you mean allow_publish?',
        ),
        (
            '[channels."a"]\nallow_history = "token"\n',
            'wsd.toml line 2: channels."a".allow_history is "token", which needs one of security.jwt_secret, ',
        ),
        ('[channels."*:{user_id}"]\n', 'wsd.toml line 1: channels."*:{user_id}" may have "*" only after "{user_id}"'),
        (
            '[channels]\n"room:*" = 3\n',
            'wsd.toml line 1: channels.room:* must be a section, such as [channels."room:*"]',
        ),
        (
            '[channels."room:*"]\nhistory_sise = 1\n',
            'wsd.toml line 2: unknown key channels."room:*".history_sise, did you mean history_size?',
        ),
        (
            '[channels."room:*"]\n\nhistory_size = -1\n',
            'wsd.toml line 3: channels."room:*".history_size must be an integer from 0 to 100000, got -1',
        ),
        (
            '[hooks]\non_message = "chat"\n',
            'wsd.toml line 2: hooks.on_message must have the form module:function, got "chat"',
        ),
        ('[webhooks]\nurl = "example.com"\n', 'wsd.toml line 2: webhooks.url must be a URL like "https://example.com/'),
        (
            '[webhooks]\nurl = "https://example.com"\nsecret = "s"\n',
            'wsd.toml line 3: webhooks.secret must be "whsec_" and 24 to 64 bytes in base64, as echo ',
        ),
        (
            '[webhooks]\nevents = ["connectd"]\n',
            'wsd.toml line 2: webhooks.events must be a list of "connected", "disconnected", "subscribed", ',
        ),
        (
            '[api_keys.a]\nrights = ["publish"]\n',
            "wsd.toml line 1: api_keys.a.key must be 1 to 512 visible characters of ASCII, as a header carries them",
        ),
        ('[api_keys.a]\nkey = "k"\n', "api_keys.a.rights must name at least one right, or the key could do nothing"),
        (
            '[api_keys.a]\nkey = "k"\nrights = ["publsh"]\n',
            'wsd.toml line 3: api_keys.a.rights must be a list of "channels", "disconnect", "history", "presence", ',
        ),
        (
            '[api_keys.a]\nkey = "k"\nrights = ["publish"]\nchannels = ["a b"]\n',
            'wsd.toml line 4: api_keys.a.channels holds "a b", which may hold only ',
        ),
        (
            '[api_keys.a]\nkey = "k"\nrights = ["publish"]\n[api_keys.b]\nkey = "k"\nrights = ["publish"]\n',
            "wsd.toml line 5: api_keys.b.key is the key of api_keys.a, too: each needs one of its own",
        ),
        ('[api_keys."a b"]\nkey = "k"\n', 'wsd.toml line 1: [api_keys."a b"] must be named with 1 to 64 of '),
        ('[api_keys]\nkey = "k"\n', "api_keys.key must be a section, such as [api_keys.orders]"),
        ("[api_keys.a]\nkeys = 1\n", "wsd.toml line 2: unknown key api_keys.a.keys, did you mean key?"),
        ("[clutser]\n", "wsd.toml line 1: unknown section [clutser], did you mean cluster?"),
        ("[cluster]\n\nwokers = 1\n", "wsd.toml line 3: unknown key cluster.wokers, did you mean workers?"),
        ("[cluster]\naffinity = 1\n", "wsd.toml line 2: unknown key cluster.affinity, did you mean nginx.affinity?"),
        ("[cluster]\nzzz = 1\n", "wsd.toml line 2: unknown key cluster.zzz"),
        ("port = 1\n", "wsd.toml line 1: unknown section [port]"),
        ("cluster = 1\n", "wsd.toml line 1: cluster must be a section, [cluster]"),
        ("cluster.wokers = 1\n", "wsd.toml line 1: unknown key cluster.wokers, did you mean workers?"),
        ('[cluster]\nport = "a"\n', 'wsd.toml line 2: cluster.port must be an integer from 1 to 65535, got "a"'),
        ('[cluster]\nport = "80"\n', 'wsd.toml line 2: cluster.port must be an integer from 1 to 65535, got "80"'),
        ("[cluster]\nport = 0\n", "wsd.toml line 2: cluster.port must be an integer from 1 to 65535, got 0"),
        ("[cluster]\nworkers = true\n", "wsd.toml line 2: cluster.workers must be an integer from 1 to 256, got true"),
        ("[cluster]\nworkers = 257\n", "wsd.toml line 2: cluster.workers must be an integer from 1 to 256, got 257"),
        ("[cluster]\nhost = 1\n", "wsd.toml line 2: cluster.host must be a string, got 1"),
        ("[cluster]\ndrain_seconds = -1\n", "cluster.drain_seconds must be a number of at least 0, got -1"),
        ("[redis]\ntimeout = 0\n", "wsd.toml line 2: redis.timeout must be a number above 0, got 0"),
        ('[nginx]\nenabled = "maybe"\n', 'wsd.toml line 2: nginx.enabled must be true or false, got "maybe"'),
        ('[nginx]\naffinity = "x"\n', 'nginx.affinity must be one of "auto", "ip", "least_conn", got "x"'),
        ('[nginx]\ntrusted_proxies = "::1"\n', 'nginx.trusted_proxies must be a list of strings, got "::1"'),
        ('[nginx]\ntls_key = "k"\n', "nginx.tls_certificate is missing"),
        ('[nginx]\ntls_certificate = "k"\n', "nginx.tls_key is missing"),
        ("[nginx]\ntls_redirect_port = 80\n", "nginx.tls_redirect_port needs tls_certificate and tls_key"),
        ('[nginx]\ntrusted_proxies = ["any;"]\n', 'must hold addresses or networks, got "any;"'),
        ('[cluster]\nhost = "a; b"\n', 'cluster.host must be an address or a host name, got "a; b"'),
        (
            '[cluster]\ncluster_key = "0123456789abcde"\n',
            "cluster.cluster_key must have at least 16 characters: `openssl",
        ),
        ('[cluster]\nnode_id = "a b"\n', "cluster.node_id may hold letters, digits and . : _ - only"),
        (
            '[redis]\nurl = "ftp://u:pw@h"\n',
            "must begin with redis://, rediss:// or unix://, or with redis+sentinel://",
        ),
        (
            "[cluster]\nworkers = 2\n[scale]\nmin = 3\nmax = 2\ncpu = 0.5\n",
            "wsd.toml line 4: scale.min must not be above scale.max, which is 2, got 3",
        ),
        ("[scale]\nmax = 4\n", "line 2: scale.max needs scale.connections_per_worker or scale.cpu"),
        ("[redis]\nembedded = false\n[scale]\nmax = 4\ncpu = 0.5\n", "line 4: scale.max needs a Redis, by which"),
        (
            "[cluster]\nworkers = 5\n[scale]\nmax = 4\ncpu = 0.5\n",
            "line 2: cluster.workers must be between scale.min, which is 1, and scale.max, which is 4, got 5",
        ),
        ("[scale]\ncpu = 1.5\n", "wsd.toml line 2: scale.cpu must be a number from 0 to 1, got 1.5"),
        ("[health]\nheartbeat_timeout = 1.5\n", "must be at least twice health.heartbeat_interval"),
        ("[[cluster]]\nport = 1\n", "wsd.toml line 1: cluster must be a section, [cluster] in single brackets"),
        ("[[channels]]\n", "wsd.toml line 1: channels must be a section, [channels] in single brackets"),
        ("\n[[nginxx]]\n", "wsd.toml line 2: unknown section [nginxx], did you mean nginx?"),
        ('"clu\\u0073ter" = 1\n', "wsd.toml: cluster must be a section, [cluster]"),
        ("[cluster]\ndrain_seconds = inf\n", "cluster.drain_seconds must be a number of at most 315360000, got inf"),
        ("[cluster]\ndrain_seconds = nan\n", "cluster.drain_seconds must be a number of at least 0, got nan"),
        ("[cluster]\ndrain_seconds = 1e999\n", "cluster.drain_seconds must be a number of at most 315360000, got inf"),
        ("[redis]\ntimeout = 1e9\n", "redis.timeout must be a number of at most 315360000, got 1000000000.0"),
        ("[redis]\nmax_memory = 9_999_999_999_999_999_999\n", "must be an integer of at most 1000000000000000, got"),
        ("[nginx]\nhttp_timeout = 999999999999\n", "http_timeout must be an integer of at most 315360000"),
        ("[cluster\nport = 1\n", "at line 1"),
        ("[cluster]\nport = 1\nport = 2\n", "line 3"),
    ],
)
def test_a_problem_in_the_file_is_named_with_its_line(text: str, problem: str) -> None:
    message = problem_of(text)
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("WSD_WORKERS", "lots", 'WSD_WORKERS: cluster.workers must be an integer from 1 to 256, got "lots"'),
        ("WSD_WORKERS", "2.5", 'WSD_WORKERS: cluster.workers must be an integer from 1 to 256, got "2.5"'),
        ("WSD_NGINX_ENABLED", "perhaps", 'WSD_NGINX_ENABLED: nginx.enabled must be true or false, got "perhaps"'),
        ("WSD_DRAIN_SECONDS", "inf", "cluster.drain_seconds must be a number of at most 315360000, got"),
        ("WSD_DRAIN_SECONDS", "nan", "cluster.drain_seconds must be a number of at least 0, got"),
        ("REDIS_URL", "localhost", "REDIS_URL: redis.url must begin with redis://"),
    ],
)
def test_a_problem_in_the_environment_is_named_with_its_variable(name: str, text: str, problem: str) -> None:
    assert problem in problem_of(environ={name: text})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("WSD_PORT", "81", ("cluster", "port", 81)),
        ("WSD_NGINX_WORKERS", "3", ("nginx", "workers", 3)),
        ("WSD_NGINX_ENABLED", "no", ("nginx", "enabled", False)),
        ("WSD_NGINX_ENABLED", "FALSE", ("nginx", "enabled", False)),
        ("WSD_REDIS_EMBEDDED", "0", ("redis", "embedded", False)),
        ("WSD_NGINX_TRUSTED_PROXIES", "10.0.0.1, ::1", ("nginx", "trusted_proxies", ("10.0.0.1", "::1"))),
        ("WSD_DRAIN_SECONDS", "0", ("cluster", "drain_seconds", 0.0)),
        ("NODE_ID", "n-1", ("cluster", "node_id", "n-1")),
        ("REDIS_URL", "redis://h", ("redis", "url", "redis://h")),
        ("REDIS_URL", "", ("redis", "url", "")),
    ],
)
def test_text_of_the_environment_becomes_values(name: str, text: str, expected: tuple[str, str, Any]) -> None:
    section, key, value = expected
    assert getattr(getattr(load({}, {name: text}, None).config, section), key) == value


def test_an_unknown_name_in_the_environment_is_only_a_warning() -> None:
    loaded = load({}, {"WSD_WOKERS": "1", "WSD_SERVICE_HOST": "x", "WSD_WORKER_SLOT": "1", "HOME": "/"}, None)
    assert loaded.config == Config()
    assert len(loaded.warnings) == 2
    assert "WSD_WOKERS is not a setting of wsd, did you mean WSD_WORKERS?" in loaded.warnings


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("redis", "breaker_failures"),
        ("redis", "breaker_pause"),
        ("redis", "breaker_successes"),
        ("redis", "compress_from_bytes"),
        ("websocket", "write_delay_ms"),
    ],
)
def test_a_removed_setting_is_called_so(section: str, key: str) -> None:
    line = f"wsd.toml line 2: unknown key {section}.{key}, it was removed: delete this line"
    assert problem_of(f"[{section}]\n{key} = 1\n") == line
    write("")
    name = f"WSD_{section}_{key}".upper()
    assert load({}, {name: "1"}, None).warnings == (f"{name} is not a setting of wsd, it was removed",)


def test_every_key_has_a_name_of_its_own_in_the_environment() -> None:
    names = [env_name(*key) for key in all_keys()]
    assert len(set(names)) == len(names)


def test_relative_paths_of_the_file_start_from_its_directory(tmp_path: Path) -> None:
    write('[cluster]\nstate_dir = "run"\n[nginx]\ntls_certificate = "a.pem"\ntls_key = "/k.pem"\n', "sub/my.toml")
    loaded = load({}, {}, "sub/my.toml")
    assert loaded.state_dir == tmp_path / "sub" / "run"
    assert loaded.config.nginx.tls_certificate == str(tmp_path / "sub" / "a.pem")
    assert loaded.config.nginx.tls_key == "/k.pem"
    assert load({}, {"WSD_CONFIG": "sub/my.toml", "WSD_STATE_DIR": "other"}, None).state_dir == tmp_path / "other"
    assert load({}, {}, None).state_dir == tmp_path / ".wsd"
    write("", "sub/empty.toml")
    assert load({}, {}, "sub/empty.toml").state_dir == tmp_path / "sub" / ".wsd"


def test_a_relative_program_starts_from_the_directory_of_the_file(tmp_path: Path) -> None:
    write('[alerts]\ncommand = "./my\\\\ alert.sh --to \'a b\'"\n[nginx]\nbinary = "bin/nginx"\n', "sub/my.toml")
    config = load({}, {}, "sub/my.toml").config
    assert shlex.split(config.alerts.command) == [str(tmp_path / "sub" / "my alert.sh"), "--to", "a b"]
    assert config.nginx.binary == str(tmp_path / "sub" / "bin" / "nginx")
    in_environment = load({}, {"WSD_CONFIG": "sub/my.toml", "WSD_ALERTS_COMMAND": "bin/alert x"}, None).config
    assert in_environment.alerts.command == f"{tmp_path}/bin/alert x"


@pytest.mark.parametrize("command", ["mail -s 'a  b' ./file", "/bin/alert ./file", ""])
def test_a_program_on_path_and_an_absolute_one_stay_as_they_are(command: str) -> None:
    write(f'[alerts]\ncommand = "{command}"\n[nginx]\nbinary = "nginx"\n', "sub/my.toml")
    config = load({}, {}, "sub/my.toml").config
    assert (config.alerts.command, config.nginx.binary) == (command, "nginx")


def test_a_file_that_was_named_must_be_there() -> None:
    for environ, named in (({}, "no.toml"), ({"WSD_CONFIG": "no.toml"}, None)):
        with pytest.raises(ConfigError, match=r"^cannot read no\.toml: No such file or directory$"):
            load({}, environ, named)


@pytest.mark.parametrize("content", [b"[cluster]\napp = '\xff'\n", "[cluster]\nport = 1\n".encode("utf-16")])
def test_a_file_that_is_not_utf8_is_refused(content: bytes) -> None:
    Path("wsd.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"wsd\.toml is not valid TOML: it is not UTF-8 text, see byte"):
        load({}, {}, None)


def test_a_byte_order_mark_before_the_settings_means_nothing() -> None:
    Path("wsd.toml").write_bytes(b"\xef\xbb\xbf[cluster]\r\nport = 81\r\n")
    assert load({}, {}, None).config.cluster.port == 81


def test_a_link_that_leads_nowhere_is_no_missing_file(tmp_path: Path) -> None:
    Path("wsd.toml").symlink_to("releases/gone.toml")
    with pytest.raises(ConfigError) as raised:
        load({}, {}, None)
    target = tmp_path / "releases" / "gone.toml"
    assert str(raised.value) == f"cannot read wsd.toml, a symbolic link to {target}: No such file or directory"


@pytest.mark.parametrize("kind", ["a directory", "links in a circle", "a FIFO", "a device", "huge"])
def test_a_path_that_is_no_file_is_refused_by_name(kind: str) -> None:
    match kind:
        case "a directory":
            Path("wsd.toml").mkdir()
        case "links in a circle":
            Path("wsd.toml").symlink_to("wsd.toml")
        case "a FIFO":
            os.mkfifo("wsd.toml")
        case "a device":
            Path("wsd.toml").symlink_to("/dev/zero")
        case "huge":
            write("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match=r"^cannot read wsd\.toml"):
        load({}, {}, None)


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("127.0.0.1", None),
        ("::", None),
        ("[::1]", None),
        ("fe80::1%eth0", 'must be an address or a host name, got "fe80::1%eth0"'),
        ("localhost", None),
        ("web_1.example.com", None),
        ("0.0.0.0:80", 'must be an address without a port, got "0.0.0.0:80": put 80 into cluster.port'),
        ("[::]:80", 'must be an address without a port, got "[::]:80": put 80 into cluster.port'),
        ("localhost:80", 'must be an address without a port, got "localhost:80": put 80 into cluster.port'),
        ("", 'must be an address or a host name, got ""'),
        ("256.1.1.1", 'must be an address or a host name, got "256.1.1.1"'),
        ("10.0.0", 'must be an address or a host name, got "10.0.0"'),
        ("http://a", 'must be an address or a host name, got "http://a"'),
        ("a..b", 'must be an address or a host name, got "a..b"'),
        ("-a", 'must be an address or a host name, got "-a"'),
        ("a" * 63 + ".b", None),
        ("a" * 64, f'must be an address or a host name, got "{"a" * 64}"'),
        ("a b", 'must be an address or a host name, got "a b"'),
    ],
)
def test_a_host_is_an_address_or_a_name(host: str, problem: str | None) -> None:
    assert host_problem(host) == problem


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://login.example.com/jwks.json?v=1", None),
        ("http://127.0.0.1:8080/jwks", None),
        ("http://localhost/", None),
        ("http://[::1]:1/", None),
        ("http://login.example.com/jwks", "must begin with https://, because the keys decide who a client is, got"),
        ("http://127.0.0.1.example.com/", "must begin with https://"),
        ("http://localhost.example.com/", "must begin with https://"),
        ("ftp://login.example.com/", 'must be a URL like https://login.example.com/jwks.json, got "ftp://login'),
        ("file:///etc/keys.json", "must be a URL like"),
        ("keys.json", 'must be a URL like https://login.example.com/jwks.json, got "keys.json"'),
        ("https://", "must be a URL like"),
        ("https://h:x/", "must be a URL like"),
        ("https://[h/", "must be a URL like"),
        ("https://h/a b", "must be a URL like"),
        ("https://user:pw@h/", "must hold no user and no password"),
        ("https://user:pw@h:x/", 'got "https://***"'),
    ],
)
def test_keys_of_tokens_come_by_https_or_from_this_machine(url: str, problem: str | None) -> None:
    if problem is None:
        write(f'[security]\njwt_jwks_url = "{url}"\n')
        assert load({}, {}, None).config.security.jwt_jwks_url == url
    else:
        message = problem_of(f'[security]\njwt_jwks_url = "{url}"\n')
        assert message.startswith("wsd.toml line 2: security.jwt_jwks_url must ")
        assert problem in message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pw@h", "redis://:***@h"),
        ("rediss://u:p:w@h:1", "rediss://u:***@h:1"),
        ("unix:///run/x.sock", "unix:///run/x.sock"),
        ("redis://pw@h", "redis://***@h"),
        ("redis://:p@w@h/0", "redis://:***@h/0"),
        ("redis://:p%zzw@h/0", "redis://:***@h/0"),
        ("redis://:p@w/pw:pw@h/0", "redis://***"),
        ("redis://:p?w@h", "redis://***"),
        ("redis://:p#w@h", "redis://***"),
        ("redis://h:pw", "redis://***"),
        ("redis://:pw", "redis://***"),
        ("redis://[pw", "redis://***"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=***&db=1"),
        ("redis://h/0?PASS%77ord=pw&protocol=3", "redis://h/0?PASS%77ord=***&protocol=3"),
        ("redis://h?password=p@w", "redis://***"),
        ("unix://u:pw@/run/x.sock", "unix://u:***@/run/x.sock"),
        ("unix:///home/a@b/x.sock?password=pw", "unix:///home/a@b/x.sock?password=***"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis+sentinel://:pw@h:1,i:2/chat", "redis+sentinel://:***@h:1,i:2/chat"),
        ("rediss+sentinel://u:p@w@[::1]:1,i/chat/0?db=1", "rediss+sentinel://u:***@[::1]:1,i/chat/0?db=1"),
        ("redis+sentinel://h:1,i:pw/chat", "redis+sentinel://***"),
        ("redis+sentinel://:p/w@h:1,i:2/chat", "redis+sentinel://***"),
        ("redis+sentinel://h:1/chat?password=pw", "redis+sentinel://h:1/chat?password=***"),
        ("redis://h:1,i:2", "redis://***"),
        ("redis:/:pw@h", "***"),
        (":pw@h:6379", "***"),
        ("http://:pw@h", "http://:***@h"),
        ("redis://:pw\n@h", "redis://:***@h"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pw1/pw2@h",
        "redis://:pw1#pw2@h",
        "redis://:pw1?pw2@h",
        "redis://:pw1]pw2[@h",
        "redis://pw1:pw2",
        "redis:/:pw1@h",
        ":pw1@h",
        "http://:pw1@h",
        "redis+sentinel://:pw1@h",
        "redis+sentinel://:pw1/pw2@h/chat",
        "redis+sentinel://:pw1@h,/chat",
        "redis+sentinel://:pw1@h:pw2/chat",
        "redis://:pw1@h:pw2",
        "redis://:pw1\0@h",
        ["redis://:pw1@h"],
        {"password": "pw1"},
    ],
)
def test_a_wrong_url_of_redis_is_refused_without_its_password(url: object) -> None:
    with pytest.raises(ConfigError, match=r"wsd\.toml line 2: redis\.url ") as refused:
        build({("redis", "url"): Setting(url, "wsd.toml line 2")})
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("key", sorted(SECRET_KEYS))
def test_a_wrong_secret_is_not_shown(key: tuple[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        build({key: Setting(4711, "wsd.toml")})
    assert "4711" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://u:p@w@h:1,[::1]/chat/0?db=1",
        "redis://:p@w@h:1/0",
        "rediss://u:p%2Fw@[::1]:1",
        "unix:///a@b?db=1",
        "redis://h?password=a@b",
    ],
)
def test_urls_of_redis_that_can_be_read_are_taken(url: str) -> None:
    assert redis_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://h/3?protocol=3&max_connections=5&socket_timeout=2.5", None),
        ("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=False&ssl_ca_certs=/etc/ca.pem", None),
        ("redis://h/cache", "must have the number of a database as its path"),
        ("redis://h/1/2", "must have the number of a database as its path"),
        ("unix://", "must name a socket"),
        ("redis://h?db=cache", "has a value of db that"),
        ("redis://h?db=", "has a value of db that"),
        ("redis://h?protocol=4", "has a value of protocol that"),
        ("redis://h?max_connections=0", "has a value of max_connections that"),
        ("redis://h?socket_timeout=nan", "has a value of socket_timeout that"),
        ("redis://h?encoding=klingon", "has an option that is none of db, "),
        ("redis://h?decode_responses=1", "has an option that is none of db, "),
        ("redis://h?retry=5", "has an option that is none of db, "),
        ("redis://h?pw=secret", "has an option that is none of db, "),
        ("redis://h?ssl_cert_reqs=none", "has ssl_cert_reqs, which needs rediss://"),
        ("rediss://h?ssl_cert_reqs=perhaps", "has a value of ssl_cert_reqs that"),
        ("rediss+sentinel://h/chat?ssl_cert_reqs=none", None),
        ("redis+sentinel://h/chat?ssl_cert_reqs=none", "has ssl_cert_reqs, which needs rediss://"),
        ("redis+sentinel://h/chat?retry=5", "has an option that is none of db, "),
        ("redis+sentinel://h", "must name the primary as the Sentinels know it"),
        ("redis+sentinel://h,/chat", "has an empty host among its Sentinels"),
    ],
)
def test_options_of_a_url_of_redis_are_those_that_work(url: str, problem: str | None) -> None:
    found = redis_url_problem(url)
    assert found is None if problem is None else found is not None and found.startswith(problem)
    assert "secret" not in (found or "")


WRONG_VALUES = [
    "-1",
    "nan",
    "true",
    '""',
    '"\\u001B[31m"',
    "[]",
    "[[1]]",
    "[{ a = 1 }]",
    "{ a = 1 }",
    "1979-05-27T07:32:00Z",
    "07:32:00",
    "1e400",
    "9" * 5000,
    f"0x{'f' * 5000}",
    f'"{"x" * 100_000}"',
]


@pytest.mark.parametrize("value", WRONG_VALUES, ids=lambda value: value[:12])
def test_every_setting_takes_or_refuses_every_value_in_one_line(value: str) -> None:
    keys = [*all_keys(), *(('channels."room:*"', name) for name in ChannelConfig.__struct_fields__)]
    for section, key in keys:
        write(f"[{section}]\n{key} = {value}\n")
        try:
            list(describe(load({}, {}, None)))
        except ConfigError as refused:
            assert key in str(refused) or "is not valid TOML" in str(refused)
            assert "\n" not in str(refused)
            assert len(str(refused)) < MAX_SHOWN_LENGTH + 200


@pytest.mark.parametrize("text", ["\udcff", "a\udc80b", "x" * 100_000, "\x1b]0;x\x07", "${HOME}; #{}%n'\"", "१"])
def test_every_setting_takes_or_refuses_every_text_of_the_environment(text: str) -> None:
    tls = {"WSD_NGINX_TLS_CERTIFICATE": "certificate.pem", "WSD_NGINX_TLS_KEY": "key.pem"}  # one needs the other
    for section, key in all_keys():
        name = env_name(section, key)
        try:
            loaded = load({}, {**tls, name: text}, None)
        except ConfigError as refused:
            assert str(refused).startswith(f"{name}: {section}.{key} ")
            assert len(str(refused)) < MAX_SHOWN_LENGTH + 200
        else:
            is_path = (section, key) in BYTE_KEYS
            assert is_path or "\n".join(describe(loaded)).encode()


def test_the_values_of_api_keys_are_never_shown() -> None:
    write('[api_keys.orders]\nkey = "sesame"\nrights = ["publish"]\n')
    loaded = load({}, {}, None)
    assert loaded.config.api_keys == {"orders": ApiKeyConfig(key="sesame", rights=("publish",), channels=("*",))}
    shown = "\n".join(describe(loaded))
    assert '[api_keys.orders]\nkey = "***"  # wsd.toml line 2\nrights = ["publish"]  # wsd.toml line 3\n' in shown
    told = [text for _, text in changes(Config(), loaded.config)]
    assert told == ["api_keys.orders.key: *** -> ***", 'api_keys.orders.rights: [] -> ["publish"]']
    with pytest.raises(ConfigError) as refused:
        build({("api_keys.orders", "key"): Setting(4711, "wsd.toml")})
    assert "4711" not in str(refused.value)


def test_the_tree_is_frozen() -> None:
    with pytest.raises(AttributeError):
        build({}).cluster.port = 1  # type: ignore[misc]
    assert msgspec.structs.asdict(build({}).log)["level"] == "info"


def test_channels_have_options_by_pattern() -> None:
    write('[channels."room:*"]\nhistory_size = 5\n[channels.news]\npresence = "off"\n')
    loaded = load({}, {}, None)
    assert loaded.config.channels == {
        "*": ChannelConfig(),
        "room:*": ChannelConfig(history_size=5),
        "news": ChannelConfig(presence="off"),
    }
    assert 'presence = "off"  # wsd.toml line 4' in list(describe(loaded))


def test_who_may_do_what_is_taken_from_the_section_for_all_channels() -> None:
    write(
        '[channels."*"]\nallow_publish = "server"\nhistory_size = 7\n[channels."room:*"]\nhistory_size = 5\n'
        '[channels.open]\nallow_publish = "anyone"\n[channels."user:{user_id}"]\n'
    )
    loaded = load({}, {}, None)
    assert loaded.config.channels == {
        "*": ChannelConfig(allow_publish="server", history_size=7),
        "room:*": ChannelConfig(allow_publish="server", history_size=5),
        "open": ChannelConfig(),
        "user:{user_id}": ChannelConfig(allow_publish="server"),
    }
    assert list(describe(loaded)).count('allow_publish = "server"  # wsd.toml line 2') == 3


def test_the_current_directory_has_the_name_that_people_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link, other = tmp_path / "releases" / "1", tmp_path / "current", tmp_path / "other"
    real.mkdir(parents=True)
    other.mkdir()
    link.symlink_to(real)
    monkeypatch.chdir(link)
    assert current_directory({"PWD": str(link)}) == link
    for pwd in ["", "current", str(tmp_path / "gone"), str(other), str(real)]:
        assert current_directory({"PWD": pwd}) == real
        assert current_directory({"PWD": pwd} if pwd != str(real) else {}, link) == link  # of the configuration file
    loaded = load({}, {"PWD": str(link), "WSD_SECURITY_JWT_JWKS_FILE": "keys.json"}, None)
    assert loaded.config.security.jwt_jwks_file == str(link / "keys.json")
    assert (loaded.here, loaded.directory, loaded.state_dir) == (link, link, real / ".wsd")
    (real / "wsd.toml").write_text("[nginx]\ntls_certificate = 'tls/cert.pem'\ntls_key = 'tls/key.pem'\n")
    assert load({}, {"PWD": str(link)}, None).config.nginx.tls_certificate == str(link / "tls" / "cert.pem")
    shutil.rmtree(real)
    with pytest.raises(ConfigError, match="the current directory has been removed"):
        current_directory({"PWD": str(link)})
    link.unlink()
    link.symlink_to(other)
    assert current_directory({"PWD": str(link)}) == link
