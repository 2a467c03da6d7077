"""The code blocks of the documentation: each names its language, and is what the program that reads it accepts.

Python, scripts and commands have tests of their own beside this one.
"""

import configparser
import json
import re
import tomllib
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec import structs

from tests.support.nginx import NGINX_AROUND, Certificate
from tests.support.pages import PAGES, Block, blocks, checked
from tests.support.postgres import Postgres, postgres
from wsd.supervisor.config.loading import load
from wsd.supervisor.new_files import archive_sql, outbox_sql
from wsd.supervisor.services.nginx_program import check, find_binary
from wsd.worker.endpoints.descriptions import Message
from wsd.worker.wire import messages as wire

LANGUAGES = {"python", "js", "html", "sh", "console", "toml", "json", "yaml", "nginx", "sql", "ini", "text"}
LANGUAGES |= {"diff", "mermaid"}
MOST_EXCUSED = 9
"""How many blocks may say that no test can check them. Those in Python may not."""


def each(*languages: str) -> pytest.MarkDecorator:
    """Run a test once for each block in these languages."""
    return pytest.mark.parametrize("block", checked(*languages), ids=lambda block: block.place)


def test_every_block_names_its_language() -> None:
    shown = [block for page in PAGES for block in blocks(page)]
    assert [f"{block.place}: {block.language!r}" for block in shown if block.language not in LANGUAGES] == []


def test_few_blocks_are_not_checked_and_none_in_python() -> None:
    excused = [block for page in PAGES for block in blocks(page) if block.not_checked]
    listed = [f"{block.place} ({block.language}): {block.not_checked}" for block in excused]
    print("\n".join(listed))
    assert len(excused) <= MOST_EXCUSED, listed
    assert "python" not in {block.language for block in excused}, listed


@each("json", "yaml", "ini")
def test_data_can_be_read(block: Block) -> None:
    match block.language:
        case "json":
            json.loads(block.text)
        case "yaml":
            for document in yaml.safe_load_all(block.text):
                validate_resource(document)
        case "ini":
            configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)


def test_messages_of_the_hub_have_only_fields_that_are_sent() -> None:
    """A message on a page may lack fields, where the page is about others."""
    kinds: list[Any] = [Message, *vars(wire).values()]
    records = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    fields: dict[object, set[str]] = defaultdict(set)
    for record in records:
        fields[record.__struct_config__.tag] |= {"type", *(field.encode_name for field in structs.fields(record))}
    values = [(block.place, json.loads(block.text)) for block in checked("json")]
    objects = [(place, value) for place, value in values if isinstance(value, dict)]
    shown = [(place, message) for place, message in objects if message.get("type") in fields.keys() - {None}]
    unknown = [(place, set(message) - fields[message["type"]]) for place, message in shown]
    assert [(place, names) for place, names in unknown if names] == []
    assert len(shown) > 5


def validate_resource(document: object) -> None:
    """Compare a resource of Kubernetes itself with its schema. The test is skipped where no schemas are installed."""
    if not isinstance(document, dict) or "apiVersion" not in document or "kind" not in document:
        return
    group, _, _ = document["apiVersion"].rpartition("/")
    if "." in group and not group.endswith(".k8s.io"):
        return
    validator = pytest.importorskip("kubernetes_validate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        validator.validate(document, "1.34", strict=True)


@each("toml")
def test_settings_are_accepted(block: Block, tmp_path: Path) -> None:
    """A block without a title, too, is a wsd.toml."""
    if block.title and Path(block.title).name != "wsd.toml":
        tomllib.loads(block.text)
        return
    (tmp_path / "wsd.toml").write_text(block.text, "utf-8")
    load({}, {}, "wsd.toml", tmp_path)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("certificate"), ["example.com"])


@each("nginx")
def test_nginx_accepts_its_configuration(block: Block, certificate: Certificate, tmp_path: Path) -> None:
    binary = find_binary("")
    assert binary is not None
    shown = block.text
    if not re.search(r"^(server|upstream|map) ", shown, re.MULTILINE):
        shown = f"server {{\n{shown}\n}}"
    shown = re.sub(r"(ssl_certificate|ssl_trusted_certificate) [^;]+;", rf"\1 {certificate.path};", shown)
    shown = re.sub(r"ssl_certificate_key [^;]+;", f"ssl_certificate_key {certificate.key};", shown)
    shown = re.sub(r"listen (?:[^\s;]*:)?(\d+)", rf"listen unix:{tmp_path}/\1.sock", shown)
    (tmp_path / "nginx.conf").write_text(NGINX_AROUND.format(directory=tmp_path, shown=shown), "utf-8")
    assert check(binary, tmp_path / "nginx.conf", tmp_path) is None


@pytest.fixture(scope="module")
def shop() -> Iterator[Postgres]:
    """The server of an application that has the tables of wsd, and a role of its own."""
    with postgres() as running:
        running.psql("CREATE ROLE shop LOGIN")
        yield running


@pytest.mark.parametrize("page", {block.page: None for block in checked("sql")}, ids=lambda page: page.name)
def test_postgres_accepts_the_sql_of_a_page(page: Path, shop: Postgres) -> None:
    database = shop.new_database()
    shop.psql(outbox_sql("wsd_outbox") + archive_sql("wsd_archive"), database)
    for block in blocks(page):
        if block.language == "sql":
            shop.psql(f"{block.text};\n", database)
