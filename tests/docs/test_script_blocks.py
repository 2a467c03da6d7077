"""The JavaScript of the documentation passes the TypeScript compiler, with the types of the package wsd-client."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.npm import npm_package
from tests.support.pages import ROOT, Block, checked

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node on PATH")

CLIENT = ["wsd-client", "*/client.js"]
"""From where programs and pages import the client: the package, and the address of a hub."""

SURROUNDINGS = """
interface Document { getElementById(id: string): any; querySelector(selectors: string): any }
declare const process: any;
declare module "node:*";
declare module "ws";
declare module "*/socket.io.esm.min.js";
"""
"""Declarations in place of types that are not known or not installed: of the element with an id, Node and Socket.IO."""

IN_A_PART = {
    "client": '/** @type {import("wsd-client").WsdClient} */ let client;',
    "WsdClient": 'import { WsdClient } from "wsd-client";',
}
"""What defines the names that a part of a program takes from the rest of the program."""

NAME_FROM_ELSEWHERE = ("TS2304", "TS2552", "TS2592", "TS18004")
"""Errors about other unknown names, which a part of a program may take from the rest, too."""

OPTIONS: dict[str, Any] = {
    "allowJs": True,
    "checkJs": True,
    "noEmit": True,
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom", "dom.iterable"],
    "types": [],
    "skipLibCheck": True,
    "paths": {name: ["./wsd-client.d.ts"] for name in CLIENT},
}


def test_the_types_of_all_scripts_are_right_and_what_is_wrong_is_found(tmp_path: Path) -> None:
    write_scripts(tmp_path)
    write_script(tmp_path / "wrong" / "a.js", 2, "client.publsh(elsewhere);", False)
    write_script(tmp_path / "wrong" / "b.js", 2, 'import { WsdClient } from "wsd-client";\nnew WsdClient(5);', True)
    write_script(tmp_path / "wrong" / "c.js", 2, 'import { b } from "./missing.js";\nelsewhere;', True)
    errors = type_errors(tmp_path)
    expected = [error for error in errors if error.startswith("wrong/")]
    assert "\n".join(error for error in errors if error not in expected) == ""
    places = [error.partition(": error ")[0] for error in expected]
    assert places == [f"wrong/{place}" for place in ("a.part.js(2,8)", "b.js(3,15)", "c.js(2,19)", "c.js(3,1)")], errors


def test_the_syntax_of_all_scripts_is_right(tmp_path: Path) -> None:
    """The same without the compiler, for machines that have Node alone."""
    write_scripts(tmp_path)
    program = """
    for (const name of process.argv.slice(1)) {
      try { new vm.SourceTextModule(fs.readFileSync(name, "utf-8"), { identifier: name }); }
      catch (error) { console.log(error.stack.split("\\n", 1)[0], error.message); }
    }
    """
    names = sorted(str(path) for path in tmp_path.rglob("*.*js"))
    command = [str(NODE), "--experimental-vm-modules", "--no-warnings", "--eval", program, *names]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == ""


def type_errors(folder: Path) -> list[str]:
    """Compile the scripts of a folder, and return the errors of which each has a line."""
    compiler = npm_package("typescript") / "bin" / "tsc"
    (folder / "surroundings.d.ts").write_text(SURROUNDINGS)
    types = (ROOT / "clients" / "js" / "wsd-client.d.ts").read_text("utf-8")
    # To the compiler, a function without types such as `({ from }) => ...` takes only messages that have a `from`.
    (folder / "wsd-client.d.ts").write_text(types.replace("  from?: Sender;", "  from: Sender;"))
    centrifuge = {"centrifuge": [str(npm_package("centrifuge") / "build" / "index.d.ts")]}
    options = {**OPTIONS, "paths": {**OPTIONS["paths"], **centrifuge}}
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    result = subprocess.run(
        [str(NODE), str(compiler), "--project", "."], cwd=folder, capture_output=True, text=True, timeout=120
    )
    errors = [line for line in result.stdout.splitlines() if " error TS" in line]
    return [
        error
        for error in errors
        if not (".part.js(" in error and error.partition(" error ")[2].startswith(NAME_FROM_ELSEWHERE))
    ]


def write_scripts(folder: Path) -> None:
    """Write the scripts of each page into a folder: a file with a title by its name, and all others by their lines."""
    shown = checked("js", "html")
    last = {(block.page, block.title): block for block in shown}
    for block in shown:
        page = folder / block.place.partition(".md:")[0].replace("/", "_")
        for line, text in scripts(block):
            is_file = block.language == "js" and block.title and block is last[block.page, block.title]
            beside = page / Path(block.title).parent
            write_script(page / block.title if is_file else beside / f"line_{line}.js", line, text, bool(block.title))


def write_script(path: Path, line: int, text: str, is_whole: bool) -> None:
    """Write a script as a module. A line of the module has the number that it has in the page."""
    before = ""
    if not is_whole and re.search(r"\bimport\b", text) is None:
        path = path.with_suffix(".part.js")
        before = " ".join(
            statement for name, statement in IN_A_PART.items() if not re.search(rf"(const|let) {name}\b", text)
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}\n" + "\n" * (line - 2) + f"{text}\nexport {{}};\n", "utf-8")


def scripts(block: Block) -> Iterator[tuple[int, str]]:
    """Yield the scripts of a block, each with the line of the page where it begins."""
    if block.language == "js":
        yield block.line + 1, block.text
    if block.language == "html":
        for line, text in Scripts.of(block.text):
            yield block.line + line, text


class Scripts(HTMLParser):
    """The scripts in a page of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self._inside = False
        self._found: list[tuple[int, str]] = []

    @classmethod
    def of(cls, text: str) -> list[tuple[int, str]]:
        parser = cls()
        parser.feed(text)
        parser.close()
        return parser._found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("type") in {None, "module"}

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._found.append((self.getpos()[0], data))
