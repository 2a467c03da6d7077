"""Tests, files, headings, settings, commands and messages that the documentation names exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import wsd
from docs.site.reference.metrics import metrics
from wsd.supervisor.alerts.ledger import Alert
from wsd.supervisor.cli.app import COMMANDS
from wsd.supervisor.config.environment import env_name
from wsd.supervisor.config.keys import REMOVED_KEYS, SECTIONS, all_keys
from wsd.worker.application.cluster import Cluster
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.messages import ErrorCode

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_SETTINGS = {"nginx.conf", "dashboard.key", "websocket.mode", "websocket.breaker", "websocket.send"}
NOT_SETTINGS |= {f"cluster.{name}" for name in dir(Cluster)}
"""Other names that look like settings: files, fields of /health, a function of Starlette, methods of applications."""

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def _text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def _code(document: Path) -> list[str]:
    """Return all code within the lines of a document."""
    return re.findall(r"`([^`\n]+)`", document.read_text("utf-8"))


def test_every_test_that_a_promise_names_exists() -> None:
    promised = _text("docs/features.md")
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("**/*.py"))
    names = set(re.findall(r"`(test_\w+)`", promised))
    assert len(names) > 50
    assert {name for name in names if f"def {name}(" not in sources} == set()
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", promised))
    assert {name for name in files if not (ROOT / name).exists()} == set()


@each_document
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path.read_text("utf-8")), target


def _anchors(text: str) -> set[str]:
    """Return the anchors of the headings in a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_that_the_architecture_names_exist() -> None:
    sources = [
        str(path.relative_to(ROOT))
        for house in ("public", "worker", "supervisor", "clients")
        for path in (ROOT / house).rglob("*")
    ]
    names = {text for text in _code(ROOT / "docs" / "architecture.md") if re.fullmatch(r"[\w/]+(\.py|/)", text)}
    assert len(names) > 30
    known = {f"/{source}" for source in sources} | {"/worker", "/supervisor", "/public", "/templates", "/clients"}
    known |= {f"/{path.relative_to(ROOT)}" for path in (ROOT / "tests").glob("*.py")}
    assert {name for name in names if not any(path.endswith(f"/{name.rstrip('/')}") for path in known)} == set()


@each_document
def test_settings_that_are_named_exist(document: Path) -> None:
    settings = {f"{section}.{key}" for section, key in (*all_keys(), *REMOVED_KEYS)}
    sections = "|".join(SECTIONS)
    named = {name for code in _code(document) for name in re.findall(rf"^(?:{sections})\.[a-z_]+(?=$|[ =])", code)}
    assert {name for name in named - settings - NOT_SETTINGS if not name.endswith(".py")} == set()


@each_document
def test_commands_that_are_named_exist(document: Path) -> None:
    commands = {command.__name__.replace("_", "-") for command in COMMANDS}
    named = {
        name for code in _code(document) for name in re.findall(r"(?<!from )\bwsd ([a-z][a-z-]+)(?![\w.:/])", code)
    }
    assert named - commands == set()


@pytest.fixture(scope="module")
def names_in_sources() -> set[str]:
    """The names in all files that make up wsd and its tests that look like an environment variable or a metric."""
    folders = ("supervisor", "worker", "public", "clients", "templates", "deploy", "benchmarks", "tests")
    suffixes = {".py", ".js", ".mjs", ".j2", ".sql", ".toml", ".yaml"}
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*") if "node_modules" not in path.parts)
    texts = (path.read_text("utf-8") for path in paths if path.suffix in suffixes)
    return {name for text in texts for name in re.findall(r"\b(?:WSD|wsd)_\w+", text)}


@each_document
def test_environment_variables_and_metrics_that_are_named_exist(document: Path, names_in_sources: set[str]) -> None:
    made = {env_name(section, key) for section, key in all_keys()}
    made |= {f"WSD_ALERT_{field.upper()}" for field in Alert.__struct_fields__}
    made |= set(re.findall(r"wsd_\w+", metrics()))
    named = set(re.findall(r"\b(?:WSD_[A-Z0-9_]+|wsd_[a-z0-9_]+)\b", document.read_text("utf-8")))
    assert named - made - names_in_sources == set()


def test_every_name_that_applications_import_is_explained() -> None:
    explained = {
        name for page in (ROOT / "docs").rglob("*.md") for code in _code(page) for name in re.findall(r"\w+", code)
    }
    assert set(wsd.__all__) - explained == set()


def test_every_error_code_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", _text("docs/protocol.md").partition("## Errors")[2].partition("\n## ")[0]))
    over_http_only = {"too_big"}
    assert set(get_args(ErrorCode)) - over_http_only - explained == set()


def test_every_close_code_is_explained() -> None:
    explained = {
        int(code) for code in re.findall(r"\b(\d{4})\b", _text("docs/protocol.md").partition("## Close codes")[2])
    }
    sent = set(CloseCode) - {CloseCode.NO_STATUS, CloseCode.ABNORMAL}
    assert sent - explained == set()


def test_alarms_that_are_explained_are_printed() -> None:
    section = _text("docs/operations.md").partition("## What an alarm means")[2]
    alarms = [
        alarm for row in re.findall(r"^\| (.*?) \|", section, re.MULTILINE) for alarm in re.findall("`(.+?)`", row)
    ]
    assert len(alarms) > 15
    parts = {part for house in ("supervisor", "worker") for part in _parts_of_messages(ROOT / house)}
    assert [alarm for alarm in alarms if not _consists_of(alarm, parts)] == []


def _consists_of(alarm: str, parts: set[str]) -> bool:
    """Tell whether texts in the code account for most of an alarm. The rest are names and figures."""
    shared = set[int]()
    for part in parts:
        if (at := alarm.find(part)) >= 0:
            shared.update(range(at, at + len(part)))
    return len(shared) > len(alarm.removesuffix("...")) * 0.45


def _parts_of_messages(folder: Path) -> Iterator[str]:
    """Yield the texts in the code, without docstrings: split where a value is filled in, and at punctuation."""
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                parts = re.split(r"%(?:\.\d)?[sdfr]|(?<=[:;,]) ", node.value)
                yield from (part for part in parts if len(part) >= 5)
