"""The pages of the reference, which are made from their sources when the site is built."""

import inspect
import re
from collections.abc import Callable

import msgspec
import pytest

import wsd
import wsd.client
import wsd.publisher
import wsd.testing
from docs.site.docstrings import rewritten
from docs.site.reference import commands, http_api, javascript, metrics, python_api, settings, settings_file, websocket
from docs.site.reference_pages import MARK, PAGES
from tests.support.pages import ROOT
from wsd.supervisor.cli.app import COMMANDS
from wsd.supervisor.config.environment import env_name
from wsd.supervisor.config.keys import all_keys
from wsd.supervisor.config.settings import ApiKeyConfig, ChannelConfig
from wsd.supervisor.control.status import ClusterStatus
from wsd.templates import template_text
from wsd.worker.endpoints.http_api import ROUTES

REFERENCE = ROOT / "docs" / "reference"
WSD_TOML = list(settings_file.parts(template_text("wsd.toml")))


def test_wsd_toml_explains_every_setting() -> None:
    explained = {(part.name, key) for part in WSD_TOML for group in part.groups for key in group.keys}
    channels = {('channels."*"', key) for key in ChannelConfig.__struct_fields__}
    keys = {("api_keys.orders", key) for key in ApiKeyConfig.__struct_fields__}
    assert explained == set(all_keys()) | channels | keys
    silent = [
        group.keys
        for part in WSD_TOML
        for number, group in enumerate(part.groups)
        if not group.text and not (part.text and number == 0)  # a section may explain its first setting
    ]
    assert silent == []


def test_wsd_init_writes_the_file_that_the_page_is_made_from() -> None:
    assert template_text("wsd.toml") == (ROOT / "wsd.toml").read_text("utf-8")


def test_the_page_of_settings_has_each_with_its_variable_and_an_anchor() -> None:
    page = settings.settings()
    for section, key in all_keys():
        assert f"`{env_name(section, key)}`" in page
        assert f"#{settings.anchor(section, key)}" in page or f'id="{settings.anchor(section, key)}"' in page


@pytest.mark.parametrize(
    ("section", "key", "row"),
    [
        ("cluster", "host", "| `port` | an integer from 1 to 65535 | `8000` | `WSD_PORT` |"),
        ("redis", "url", '| `url` | a string | `""` | `WSD_REDIS_URL`, `REDIS_URL` | stop and start |'),
        ("redis", "timeout", "| `timeout` | seconds, above 0 | `2.0` | `WSD_REDIS_TIMEOUT` | reload |"),
        ("websocket", "max_buffer_bytes", "| bytes, at least 1 | `1048576` |"),
        ("nginx", "affinity", '| `"auto"`, `"ip"`, `"least_conn"` | `"auto"` |'),
        ("nginx", "trusted_proxies", "| a list of strings | `[]` |"),
    ],
)
def test_a_setting_is_described_by_its_type_and_default(section: str, key: str, row: str) -> None:
    chapter = settings.settings().partition(f"{{ #{settings.anchor(section, key)} }}")[2].partition("\n##")[0]
    assert row in chapter


def test_an_explanation_links_to_the_settings_and_pages_that_it_names() -> None:
    page = settings.settings()
    assert "at most [`drain_seconds`](#cluster.drain_seconds)." in page
    assert "see [nodes](../nodes.md)" in page
    assert '`[channels."room:*"]`' in page


def test_the_page_of_commands_has_every_command_with_its_options_and_examples() -> None:
    page = commands.commands()
    for command in COMMANDS:
        name = command.__name__.replace("_", "-")
        chapter = page.partition(f"\n## wsd {name} {{")[2].partition("\n## ")[0]
        for option in re.findall(r'"(--[\w-]+)"', inspect.getsource(command)):
            assert option in chapter
        for example in re.findall(r"Example: (.+)", command.__doc__ or ""):
            assert f"\n{example}\n" in chapter


def test_the_page_of_the_http_api_has_every_request_with_its_parameters_and_answers() -> None:
    page = http_api.http_api()
    chapter = page.partition("### `GET /api/websocket/history/{channel}`")[2].partition("\n### ")[0]
    assert "The API key needs the right `history`." in chapter
    assert "| `limit` | query | integer, 0 to 500 | `100` | The maximum number of messages. 0 means 1. |" in chapter
    assert "| 200 OK | [HistoryPage](#historypage) |  |" in chapter
    assert "| 401 Unauthorized | [ErrorAnswer](#erroranswer) | The key is wrong or missing. |" in chapter
    for route in ROUTES:
        assert f"### `{route.method} {route.path}" in page


def test_the_page_of_the_protocol_has_requests_answers_and_close_codes() -> None:
    page = websocket.websocket()
    assert "[`subscribed`](#subscribed), [`ack`](#ack), [`error`](#error) |" in page
    assert "| 1013 | the client reads too slowly |" in page
    assert "| `Authorization` | string | absent | `Bearer` and a JSON Web Token. |" in page


@pytest.mark.parametrize("make", [http_api.http_api, websocket.websocket])
def test_links_between_records_lead_somewhere(make: Callable[[], str]) -> None:
    page = make()
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(re.findall(r"\{ #(\S+) \}", page))


def test_the_page_of_metrics_has_those_of_nodes_and_workers_with_types_units_and_labels() -> None:
    page = metrics.metrics()
    assert "| `wsd_messages_sent_total` | counter |  | `node`, `worker` | Messages to clients |" in page
    assert "| `wsd_process_resident_memory_bytes` | gauge | bytes | `node`, `process` | Memory of the process |" in page
    assert "| `wsd_archive_lost_total` |" in page
    optional = {name: getattr(metrics.full_status(), name) for name in ("nginx", "valkey", "relay", "autoscaling")}
    optional_fields = {each.name for each in msgspec.structs.fields(ClusterStatus) if "None" in str(each.type)}
    assert optional_fields - {"operation"} == set(optional)
    assert None not in optional.values(), "a metric that only some nodes have would be missing in the page"


def test_the_pages_of_python_have_every_public_name() -> None:
    publishers = {"AsyncPublisher", "PublishError", "PublishResult", "Publisher"}
    grouped = [name for names in python_api.WSD.values() for name in names]
    assert sorted([*grouped, *publishers, "__version__"]) == sorted(wsd.__all__)
    for package, page in (
        (wsd.client, python_api.python_client()),
        (wsd.publisher, python_api.python_publisher()),
        (wsd.testing, python_api.python_testing()),
    ):
        assert {f"::: {package.__name__}.{name}" for name in package.__all__} <= set(page.splitlines())


def test_the_page_of_the_javascript_client_has_every_exported_name() -> None:
    page = javascript.javascript()
    exported = re.findall(r"^export \w+ (\w+)", javascript.DECLARATIONS.read_text("utf-8"), re.MULTILINE)
    assert sorted(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == sorted(exported)
    assert "A client of the hub that loses no messages." in page.partition("\n```ts\n")[0]


def test_a_docstring_is_shown_with_lists_links_and_code() -> None:
    docstring = "Do it. Raises WsdError.\n\n`limit`: how many at most. `a`,\n`b`: others.\n\n    x = 1\n    y = 2"
    assert rewritten(docstring, lambda name: f"<{name[0]}>") == (
        "Do it. Raises <WsdError>.\n\n* `limit`: how many at most.\n* `a`, `b`: others.\n\n```python\nx = 1\ny = 2\n```"
    )


def test_every_generated_part_stands_in_one_page() -> None:
    marks = [name for page in REFERENCE.glob("*.md") for name in MARK.findall(page.read_text("utf-8"))]
    assert sorted(marks) == sorted(PAGES)
