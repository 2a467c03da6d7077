"""The Python of the documentation passes mypy: all blocks in one run, as the files that they are for a reader."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.pages import PAGES, ROOT, Block, blocks

WRONG = """
import wsd
from chat import missing
from wsd import Clustr

async with wsd.testing.AsyncTestCluster() as cluster:
    pass

def publish(publisher: wsd.Publisher):
    publisher.publish("room", {}, exclud="")
    unknown()
"""


def test_the_types_of_all_python_are_right_and_what_is_wrong_is_found(tmp_path: Path) -> None:
    for page in PAGES:
        write_page(page, tmp_path / "page" / str(page.relative_to(ROOT).with_suffix("")).replace("/", "_"))
    wrong = tmp_path / "wrong.md"
    wrong.write_text(f'```python title="chat.py"\n\n```\n```python{WRONG}```\n')
    write_page(wrong, tmp_path / "page" / "wrong")
    errors = type_errors(tmp_path)
    expected = {error for error in errors if error.startswith("wrong/")}
    assert "\n".join(error for error in errors if error not in expected) == ""
    assert {int(error.split(":")[1]) for error in expected} == {6, 7, 9, 13, 14}, expected


def type_errors(folder: Path) -> list[str]:
    """Check the package `page` in a folder, and return the errors, each with its place in the package.

    The cache is that of `make check`, which has checked wsd with the same options before.
    """
    subprocess.run(["make", "--silent", ".types/wsd"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "mypy", "--hide-error-context", "--no-error-summary", "--package", "page"]
    environ = {**os.environ, "MYPYPATH": f".types:{folder}"}
    result = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode in {0, 1}, result.stderr
    return [line.partition(f"{folder.name}/page/")[2] or line for line in result.stdout.splitlines()]


def write_page(page: Path, folder: Path) -> None:
    """Write the Python of a page as modules. A line of a module has the number that it has in the page."""
    python = [block for block in blocks(page) if block.language == "python"]
    own = {re.split(r"[/.]", block.title)[0] for block in python if block.title}
    last = {block.title: block for block in python}
    module: list[Block] = []
    for block in python:
        module = [*module, block] if block.continues else [block]
        is_file = block.title and block is last[block.title]
        path = folder / (block.title if is_file else f"block_in_line_{block.line}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(with_imports_from(f"page.{folder.name}", own, source(module)), "utf-8")


def source(module: list[Block]) -> str:
    """Return the source of a module. What awaits outside of functions becomes a function."""
    lines: list[str] = []
    for block in module:
        lines += [""] * (block.line - len(lines))
        lines += block.text.splitlines()
    if awaits(ast.parse("\n".join(lines))):
        first = module[0].line
        lines = [*lines[: first - 1], "async def page():", *(f"    {line}" for line in lines[first:])]
    return "\n".join(lines) + "\n"


def awaits(tree: ast.Module) -> bool:
    """Tell whether a module awaits outside of its functions."""
    nodes: list[ast.AST] = [*tree.body]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return False


def with_imports_from(package: str, own: set[str], text: str) -> str:
    """Let imports of the page's own files name their package, so that other pages may have files of the same names."""
    names = "|".join(map(re.escape, sorted(own))) or "$."
    text = re.sub(rf"^( *)from ({names})\b", rf"\1from {package}.\2", text, flags=re.MULTILINE)
    modules = rf"^( *)import ({names})((?:\.\w+)*)$"
    return re.sub(modules, rf"\1import {package}.\2\3, {package}.\2 as \2", text, flags=re.MULTILINE)
