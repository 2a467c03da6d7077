"""Imports point one way: between the houses, between the folders of a house, and between the modules of a folder."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STDLIB = sys.stdlib_module_names


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Return the names that a module imports. Many tests ask for the same module, and parsing it is expensive."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def modules(folder: str) -> list[Path]:
    found = sorted(path for path in (ROOT / folder).glob("**/*.py") if "node_modules" not in path.parts)
    assert found
    return found


def importers(paths: Iterable[Path], is_forbidden: Callable[[str], bool]) -> list[str]:
    """Return a line for each import of these modules that is forbidden."""
    return [f"{path.relative_to(ROOT)}: {name}" for path in paths for name in imports(path) if is_forbidden(name)]


def package(name: str) -> str:
    """Return the top-level package of an imported name."""
    return name.partition(".")[0]


def test_the_worker_never_imports_the_supervisor() -> None:
    assert importers(modules("worker"), lambda name: name.startswith("wsd.supervisor")) == []


def test_the_supervisor_takes_only_the_contract_from_the_worker() -> None:
    def is_forbidden(name: str) -> bool:
        return name.startswith("wsd.worker") and not name.startswith("wsd.worker.contract.")

    assert importers(modules("supervisor"), is_forbidden) == []


def test_redis_is_imported_in_one_place_that_turns_its_errors_into_ours() -> None:
    others = [path for path in modules("worker") if path.name != "redis_client.py"]
    assert importers(others, lambda name: package(name) == "redis") == []


def is_foreign(own: str, *also: str) -> Callable[[str], bool]:
    """Make a test of imported names: those of `own`, of `also` and of the standard library are not foreign."""
    return lambda name: not name.startswith(own) and name not in also and package(name) not in STDLIB.union(also)


def test_the_contract_needs_only_the_standard_library() -> None:
    assert importers(modules("worker/contract"), is_foreign("wsd.worker.contract.")) == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("wsd.supervisor.cli.app", "starlette uvicorn redis jinja2 psutil msgspec rich.console"),
        ("wsd.worker.endpoints.http_api", "wsd.worker.endpoints.openapi wsd.worker.endpoints.asyncapi"),
        ("wsd.worker.contract.environment", "starlette uvicorn redis msgspec"),
        ("wsd.worker.dev.__main__", "redis prometheus_client jwt cryptography psutil jinja2"),
        ("wsd.client", "starlette uvicorn redis msgspec jinja2 typer psutil"),
        ("wsd.publisher", "starlette uvicorn redis msgspec jinja2 typer psutil websockets wsd.client"),
    ],
)
def test_imports_that_must_be_quick_load_nothing_heavy(module: str, unwanted: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {unwanted.split()} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_nothing_is_printed_but_through_the_terminal_module() -> None:
    ways = ("typer.echo", "typer.secho", "click.echo", "sys.stdout.write", "sys.stderr.write", "rich.print")
    others = [path for path in modules("supervisor") if path.name != "terminal.py"]
    assert importers(others, lambda name: name == "rich.console.Console") == []
    printing = []
    for path in others:
        text = path.read_text("utf-8")
        calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        names = {func.id for func in calls if isinstance(func, ast.Name)}
        printing += [f"{path}: {way}" for way in (*ways, "print") if way in (names if way == "print" else text)]
    assert printing == []


def test_the_client_needs_only_websockets_and_the_root_of_the_errors() -> None:
    is_forbidden = is_foreign("wsd.client.", "websockets", "wsd.worker.contract.errors.WsdError")
    assert importers(modules("clients/python"), is_forbidden) == []


def test_the_publisher_needs_only_the_standard_library_and_the_root_of_the_errors() -> None:
    is_forbidden = is_foreign("wsd.publisher.", "wsd.worker.contract.errors.WsdError")
    assert importers(modules("clients/publisher"), is_forbidden) == []


@pytest.mark.parametrize("name", ["answers", "calls", "records", "retrying"])
def test_decisions_of_the_publisher_need_no_clock_and_no_network(name: str) -> None:
    io = {"asyncio", "random", "threading", "time"}
    assert importers([ROOT / "clients" / "publisher" / f"{name}.py"], lambda taken: package(taken) in io) == []


SHELLS = {"asyncio_client", "callbacks", "engine", "failures", "inbox", "link", "mailbox", "own_thread", "sync_client"}
"""The modules of the client in Python around its state machine."""


def test_the_machine_of_the_client_does_no_io() -> None:
    io = {"asyncio", "logging", "random", "secrets", "socket", "ssl", "threading", "time", "websockets"}
    shells = {f"wsd.client.{name}" for name in SHELLS}
    pure = [path for path in modules("clients/python") if path.stem not in {"__init__", *SHELLS}]
    assert importers(pure, lambda name: package(name) in io or name.rpartition(".")[0] in shells) == []


def test_the_worker_has_loggers_that_no_application_configures() -> None:
    """`wsd.worker.logs.get_logger` makes such a logger."""
    others = [path for path in modules("worker") if "logging.getLogger(__name__)" in path.read_text("utf-8")]
    assert others == []


def test_the_core_of_the_worker_renders_nothing_for_clients() -> None:
    """Dialects do. What is encoded elsewhere is published, or answers a request of the hub's protocol."""
    encoding = {
        path.relative_to(ROOT / "worker").as_posix()
        for path in modules("worker")
        if re.search(r"\bwire\.encode\(", path.read_text("utf-8"))
    }
    published = {
        "channels/member_messages.py",
        "channels/presence_events.py",
        "manager/publisher.py",
        "manager/websocket_manager.py",
        "relay/rows.py",
    }
    assert encoding == {"application/formats.py", "dialects/hub_dialect.py", "endpoints/hub_client.py", *published}


@pytest.mark.parametrize("folder", ["public", "supervisor", "worker", "clients", "tests"])
def test_modules_are_imported_by_their_full_names(folder: str) -> None:
    """The other tests of imports do not see relative ones."""
    relative = [
        str(path)
        for path in modules(folder)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_no_house_imports_from_the_package_that_applications_import() -> None:
    """`wsd` loads its names from high rows of the worker, which the test of the rows would not see."""
    below = ("wsd.supervisor", "wsd.worker", "wsd.templates", "wsd.client", "wsd.publisher")
    paths = modules("supervisor") + modules("worker")
    assert importers(paths, lambda name: package(name) == "wsd" and not name.startswith(below)) == []


def test_no_test_module_imports_from_another() -> None:
    assert importers(modules("tests"), lambda name: name.startswith("tests.") and ".test_" in name) == []


# Each row imports only from rows below it. Modules of one folder may import each other, without a circle.
LAYERS = {
    "worker": """
        __main__
        dev
        app shared_loop
        application
        websocket_middleware
        endpoints
        centrifuge
        clients
        relay
        manager_name process_workers
        worker
        assembly health heartbeat
        redis_heartbeat
        manager
        backend
        channels sessions server
        hooks
        archive
        origin security broker delivery
        dialects
        wire
        locked_job
        postgres
        background
        logs redis_client
        errors
        contract
    """,
    "supervisor": """
        __main__
        cli
        doctor new_files bench chaos
        docker_files
        launch dev
        alerts
        control supervisor
        watches redis_startup
        peers
        deploys
        cluster
        monitoring
        nodes
        services
        processes
        logs
        state_dir config
        machine
        template
        errors unix_http quoting counts percentile local_tls
    """,
}


PACKAGES = {"clients/python": "wsd.client", "clients/publisher": "wsd.publisher"}
"""The packages of houses that are not called as their folders are."""


def import_graph(house: str) -> dict[str, set[str]]:
    """Return which modules of a house each of its modules imports, under `if TYPE_CHECKING` and in functions, too."""
    names = {module_name(path, house): path for path in modules(house)}
    return {
        name: {known for target in imports(path) if (known := longest_known(target, house, names))} - {name}
        for name, path in names.items()
    }


def module_name(path: Path, house: str) -> str:
    parts = path.relative_to(ROOT / house).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def longest_known(target: str, house: str, names: Iterable[str]) -> str:
    """Return the module that an imported name belongs to, or "" if it is none of this house."""
    own = PACKAGES.get(house, f"wsd.{house}")
    name = target.removeprefix(f"{own}.") if target.startswith(f"{own}.") else ""
    while name and name not in names:
        name = name.rpartition(".")[0]
    return name


def room(module: str) -> str:
    """Return the folder or top-level module that a module belongs to."""
    return module.partition(".")[0]


@pytest.mark.parametrize("house", LAYERS)
def test_every_module_imports_only_from_rows_below_its_own(house: str) -> None:
    rows = [row.split() for row in LAYERS[house].split("\n") if row.strip()]
    level = {name: -number for number, row in enumerate(rows) for name in row}
    graph = import_graph(house)
    assert {room(module) for module in graph if module} == set(level)
    upwards = [
        f"{module} -> {target}"
        for module, targets in graph.items()
        for target in targets
        if module and room(module) != room(target) and level[room(module)] <= level[room(target)]
    ]
    assert upwards == []


@pytest.mark.parametrize("house", LAYERS)
def test_the_document_shows_all_rooms_in_this_order(house: str) -> None:
    table = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition(f"| `{house}/` |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)(?:/|\.py)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    shown_in = {name: number for number, row in enumerate(rows) for name in row}
    assert set(shown_in) == set(LAYERS[house].split())
    shown = [sorted(shown_in[name] for name in row.split()) for row in LAYERS[house].split("\n") if row.strip()]
    assert all(above[-1] <= below[0] for above, below in pairwise(shown))


@pytest.mark.parametrize("house", [*LAYERS, *PACKAGES])
def test_no_modules_import_each_other_in_a_circle(house: str) -> None:
    try:
        tuple(TopologicalSorter(import_graph(house)).static_order())
    except CycleError as exc:
        pytest.fail(f"a circle of imports: {exc.args[1]}")
