"""The image and the Compose stack in deploy/, and those of `wsd init --docker`: of one template, and in agreement."""

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import wsd
from wsd.supervisor.config.keys import all_keys
from wsd.supervisor.config.loading import load
from wsd.supervisor.config.settings import Config
from wsd.supervisor.docker_files import find_requirements, image_name, own_files
from wsd.supervisor.new_files import archive_sql, outbox_sql, stop_seconds
from wsd.supervisor.services.nginx_program import check, find_binary

FOLDER = Path(__file__).parent.parent / "deploy"
STACK = {"Dockerfile", "compose.yaml", "nginx.conf", "database.sql", ".env.example"}
SECRETS = {"REDIS_PASSWORD": "aa", "POSTGRES_PASSWORD": "bb", "RELAY_PASSWORD": "cc"}


def own() -> dict[str, str]:
    config = Config()
    sql = outbox_sql(config.postgres.table) + archive_sql(config.postgres.archive_table)
    return own_files(sql, stop_seconds=stop_seconds(config.cluster))


def compose(text: str) -> Any:
    """Parse a Compose file, with a value for each variable that must be set."""
    return yaml.safe_load(re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: SECRETS[found[1]], text))


def stack() -> Any:
    return compose((FOLDER / "compose.yaml").read_text("utf-8"))


def node(name: str) -> Any:
    return stack()["services"][name]


def settings(name: str) -> Config:
    """Return the settings of a node: those of the image, overridden by those of the stack."""
    image = dict(re.findall(r"(WSD_\w+)=(\S+)", (FOLDER / "Dockerfile").read_text("utf-8")))
    return load({}, image | node(name)["environment"], None).config


@pytest.mark.parametrize("name", sorted(STACK))
def test_the_files_in_deploy_are_those_of_the_templates(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == own()[name]


@pytest.mark.parametrize("name", ["wsd-1", "wsd-2"])
def test_a_node_has_settings_that_exist_and_time_to_stop(name: str) -> None:
    variables = {f"WSD_{key}".upper() for section, key in all_keys() if section == "cluster"}
    variables |= {f"WSD_{section}_{key}".upper() for section, key in all_keys()}
    assert set(node(name)["environment"]) <= variables | {"REDIS_URL", "NODE_ID"}
    config = settings(name)
    assert config.cluster.node_id == name
    assert (config.cluster.host, config.cluster.port) == ("0.0.0.0", 8000)
    assert config.redis.url == "redis://:aa@valkey:6379/0"
    assert config.postgres.url == "postgresql://wsd_relay:cc@postgres:5432/wsd"
    assert int(node(name)["stop_grace_period"].removesuffix("s")) >= config.cluster.drain_seconds + 10


@pytest.mark.parametrize("name", ["wsd-1", "wsd-2"])
def test_a_node_may_do_nothing_that_it_needs_not(name: str) -> None:
    service = node(name)
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "ports" not in service
    user = re.findall(r"^USER (\d+):(\d+)$", (FOLDER / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert user == [("10001", "10001")]
    assert service["tmpfs"] == ["/tmp", str(Path(settings(name).cluster.state_dir).parent)]


def test_nginx_leads_to_all_nodes_and_each_believes_it_alone() -> None:
    text = (FOLDER / "nginx.conf").read_text("utf-8")
    (subnet,) = stack()["networks"]["default"]["ipam"]["config"]
    addresses = [node(name)["networks"]["default"]["ipv4_address"] for name in ("wsd-1", "wsd-2")]
    assert re.findall(r"server ([\d.]+):8000 ", text) == addresses
    for name, address in zip(("wsd-1", "wsd-2"), addresses, strict=True):
        assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["subnet"])
        assert settings(name).nginx.trusted_proxies == (subnet["subnet"],)
        assert settings(name).cluster.advertise == f"ws://{address}:8000/ws"


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    text = (FOLDER / "nginx.conf").read_text("utf-8").replace("listen 80;", "listen unix:./front.sock;")
    (tmp_path / "nginx.conf").write_text(f"pid nginx.pid; events {{}} http {{\n{text}\n}}")
    binary = find_binary("")
    assert binary is not None
    assert check(binary, tmp_path / "nginx.conf", tmp_path) is None


def test_every_variable_of_the_stack_is_explained() -> None:
    variables = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text("utf-8")))
    example = (FOLDER / ".env.example").read_text("utf-8")
    assert dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE)) == dict.fromkeys(SECRETS, "") | {
        "HTTP_PORT": "8080"
    }
    assert variables == {*SECRETS, "HTTP_PORT"}


def test_init_writes_an_image_of_an_application(tmp_path: Path) -> None:
    directory = tmp_path / "My Shop"
    directory.mkdir()
    (directory / "wsd.toml").write_text("[cluster]\ndrain_seconds = 100\n")
    (directory / "requirements.txt").write_text("starlette\n")
    result = wsd("init", "--docker", "--app", "shop.main:app", cwd=directory)
    assert (result.returncode, result.stderr) == (0, "")
    written = STACK | {".dockerignore"}
    assert result.stdout.splitlines() == [f"wrote {directory / name}" for name in [*own(), ".dockerignore"]]
    assert {path.name for path in directory.iterdir()} == written | {"wsd.toml", "requirements.txt"}
    dockerfile = (directory / "Dockerfile").read_text("utf-8")
    assert "WSD_APP=shop.main:app " in dockerfile
    assert "--requirement /src/requirements.txt" in dockerfile
    made = compose((directory / "compose.yaml").read_text("utf-8"))
    assert (made["name"], made["services"]["wsd-2"]["image"]) == ("my-shop", "my-shop")
    assert made["services"]["wsd-1"]["stop_grace_period"] == "130s"
    ours = stack()
    for name in ("nginx", "valkey", "postgres"):
        assert made["services"][name] == ours["services"][name]
    assert ".env" in (directory / ".dockerignore").read_text("utf-8").split("\n")


def test_init_overwrites_no_image(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("mine")
    result = wsd("init", "--docker", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "compose.yaml already exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["compose.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--app", "chat:app"], "--app needs --docker"),
        (["--docker", "--postgres"], "--postgres writes no file"),
        (["--docker", "--app", "chat"], '"chat"'),
    ],
)
def test_init_refuses_what_it_cannot_do(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = wsd("init", *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])
    assert message in result.stderr


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, ""),
        ({"requirements.txt": ""}, "requirements.txt"),
        ({"pyproject.toml": "[project]\nname = 'shop'"}, "pyproject.toml"),
        ({"pyproject.toml": "[tool.ruff]"}, ""),
        ({"pyproject.toml": "not TOML"}, ""),
        ({"requirements.txt": "", "pyproject.toml": "[project]"}, "requirements.txt"),
    ],
)
def test_the_requirements_of_an_application(tmp_path: Path, files: dict[str, str], found: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert find_requirements(tmp_path) == found


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My Shop", "my-shop"), ("_a__b.c-", "a-b-c"), ("日本", "app"), ("x" * 99, "x" * 60)],
)
def test_the_name_of_an_image(folder: str, name: str) -> None:
    assert image_name(Path("/srv") / folder) == name
