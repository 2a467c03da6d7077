"""Docstrings of the names that applications import: each is there, and explains parameters and attributes."""

import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

import wsd
import wsd.client
import wsd.publisher
import wsd.testing
from docs.site.reference.python_api import BEYOND, MEMBERS, NOT_MADE_BY_APPLICATIONS, is_record
from tests.support.pages import ROOT
from wsd.worker.application.sync import SyncOperations
from wsd.worker.endpoints.field_meanings import meanings

TABLE = (ROOT / "docs" / "reference" / "python.md").read_text("utf-8").partition("| name |")[2].partition("\n\n")[0]
SHARED_PARAMETERS = {
    name for row in re.findall(r"^\|([^|]+)\|", TABLE, re.MULTILINE) for name in re.findall(r"\w+", row)
}
"""The parameters that mean the same everywhere, which the page about Python explains in a table."""

TYPES_MADE_OF_OTHERS = {"wsd.Encode", "wsd.Record", "wsd.client.Message"}

PUBLIC: dict[str, Any] = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (wsd, wsd.client, wsd.publisher, wsd.testing)
    for name in package.__all__
    if name != "__version__" and f"{package.__name__}.{name}" not in TYPES_MADE_OF_OTHERS
}
[SYNC] = BEYOND["Cluster"]
PUBLIC[SYNC] = SyncOperations


def documented_methods(path: str) -> Iterator[tuple[str, FunctionType]]:
    """Yield the methods and properties of a public class that its page shows."""
    kind = PUBLIC[path]
    for name in MEMBERS.get(path, dir(kind)) if inspect.isclass(kind) else ():
        found = inspect.getattr_static(kind, name, None)
        function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if not name.startswith("_") and isinstance(function, FunctionType) and function.__module__.startswith("wsd."):
            yield name, function


def functions(path: str) -> Iterator[tuple[str, Callable[..., Any], str]]:
    """Yield the functions of a public name, its constructor among them, each with its docstring."""
    value = PUBLIC[path]
    name = path.rpartition(".")[2]
    if not inspect.isclass(value):
        yield name, value, inspect.getdoc(value) or ""
        return
    is_made = path not in NOT_MADE_BY_APPLICATIONS and not is_record(value) and not issubclass(value, Exception)
    if is_made and "__init__" in vars(value):
        yield name, value.__init__, f"{inspect.getdoc(value)} {inspect.getdoc(value.__init__)}"
    for method, function in documented_methods(path):
        yield f"{name}.{method}", function, inspect.getdoc(function) or ""


DOCSTRINGS = {name: text for path in PUBLIC for name, _, text in functions(path)}
"""The docstring of each function, by names such as `Cluster.publish`."""


def explained(name: str, docstring: str) -> set[str]:
    """Return the names that a docstring explains, also by naming another method that explains them."""
    owner = name.partition(".")[0]
    others = (
        DOCSTRINGS.get(other) or DOCSTRINGS.get(f"{owner}.{other}", "") for other in re.findall(r"[\w.]*\w", docstring)
    )
    return set(re.findall(r"`(\w+)`", " ".join([docstring, *others])))


@pytest.mark.parametrize("path", PUBLIC)
def test_every_public_name_and_method_says_what_it_is(path: str) -> None:
    assert inspect.getdoc(PUBLIC[path])
    assert [name for name, _, text in functions(path) if not text] == []


@pytest.mark.parametrize("path", PUBLIC)
def test_every_parameter_is_explained(path: str) -> None:
    unexplained = {
        name: missing
        for name, function, text in functions(path)
        if (
            missing := {*inspect.signature(function).parameters}
            - {"self", "cls"}
            - SHARED_PARAMETERS
            - explained(name, text)
        )
    }
    assert unexplained == {}


@pytest.mark.parametrize("path", [path for path, value in PUBLIC.items() if is_record(value)])
def test_every_attribute_of_a_record_is_explained(path: str) -> None:
    record = PUBLIC[path]
    fields = getattr(record, "__struct_fields__", None) or record.__annotations__
    assert set(fields) - set(meanings(record)) == set()


@pytest.mark.parametrize("path", PUBLIC)
def test_times_have_a_unit(path: str) -> None:
    for name, function, text in functions(path):
        for parameter, annotation in inspect.get_annotations(function).items():
            is_time = "float" in str(annotation) and parameter not in {*SHARED_PARAMETERS, "return"}
            assert not is_time or "seconds" in text, f"{name}: {parameter}"
