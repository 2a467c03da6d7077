"""The commands of the documentation can be typed: shell that is correct, and options, files and targets that exist."""

import ast
import functools
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from tests.support.pages import PAGES, ROOT, Block, checked
from tests.support.shell import commands
from wsd.supervisor.cli.app import app

WSD: Any = typer.main.get_command(app)
START_OTHERS = {"docker", "kubectl", "ssh", "uv", "uvx"}
"""Programs whose arguments may be a command of wsd."""
FOLDERS = "benchmarks|clients|deploy|docs|examples|public|supervisor|templates|tests|worker"


def typed(block: Block) -> str:
    """Return what a reader types: of a console block the lines after `$ `, with the lines in which they go on."""
    if block.language == "sh":
        return block.text
    lines: list[str] = []
    for line in block.text.splitlines():
        if line.startswith("$ ") or (lines and line.startswith("> ")):
            lines.append(line[2:])
    return "\n".join(lines) + "\n"


def all_commands() -> list[tuple[Block, list[str]]]:
    return [(block, command) for block in checked("sh", "console") for command in commands(typed(block))]


def test_the_commands_in_a_piece_of_shell_are_found() -> None:
    text = """
    export KEY=$(openssl rand -hex 32)  # a comment; with a semicolon
    WSD_PORT=9000 wsd start --detach && wsd publish news '{"a": "b; c"}' > out.txt 2>&1
    sudo -u ann wsd tail '' 2>errors.txt
    sendmail -t <<END
wsd nothing
END
    wsd init --postgres | \\
        psql -c 'SELECT 1;
SELECT 2;'
    """
    assert list(commands(text)) == [
        ["openssl", "rand", "-hex", "32"],
        ["export", "KEY=substituted"],
        ["wsd", "start", "--detach"],
        ["wsd", "publish", "news", '{"a": "b; c"}'],
        ["wsd", "tail", ""],
        ["sendmail", "-t"],
        ["wsd", "init", "--postgres"],
        ["psql", "-c", "SELECT 1;\nSELECT 2;"],
    ]


def test_the_shell_of_all_blocks_is_correct() -> None:
    wrong = []
    for block in checked("sh", "console"):
        result = subprocess.run(["bash", "-n"], input=typed(block), capture_output=True, text=True, check=False)
        if result.returncode != 0:
            wrong.append(f"{block.place}: {result.stderr}")
    assert "\n".join(wrong) == ""


def test_console_blocks_have_commands_and_others_have_no_prompts() -> None:
    wrong = [block.place for block in checked("console") if not block.text.startswith("$ ")]
    wrong += [block.place for block in checked("sh", "text") if re.search(r"^\$ ", block.text, re.MULTILINE)]
    assert wrong == []


def test_commands_of_wsd_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WSD_URL", raising=False)
    wrong, count = [], 0
    for block, words in all_commands():
        if (arguments := arguments_of_wsd(words)) is not None:
            count += 1
            if problem := problem_with(arguments):
                wrong.append(f"{block.place}: wsd {' '.join(arguments)}: {problem}")
    assert "\n".join(wrong) == ""
    assert count > 40


def test_options_of_wsd_that_the_text_names_exist() -> None:
    wrong, count = [], 0
    for page in PAGES:
        for name, rest in re.findall(r"`wsd ([a-z][a-z-]*)([^`\n|>]*)", page.read_text("utf-8")):
            known = {
                option
                for parameter in WSD.commands[name].params
                for option in (*parameter.opts, *parameter.secondary_opts)
            }
            options = re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest)
            count += len(options)
            wrong += [f"{page.name}: wsd {name} {option}" for option in options if option not in known]
    assert wrong == []
    assert count > 20


def test_commands_that_wsd_does_not_know_are_found() -> None:
    assert problem_with(["status", "--nodes"]) == ""
    assert "No such command" in problem_with(["stats"])
    assert "No such option" in problem_with(["status", "--node"])
    assert "Missing" in problem_with(["kick"])


def arguments_of_wsd(words: list[str]) -> list[str] | None:
    """Return the arguments of a command of wsd, and None for another program."""
    names = [Path(word).name for word in words]
    if names[0] == "wsd":
        return words[1:]
    if names[0] in START_OTHERS and "wsd" in names[1:-1]:
        last = len(names) - 1 - names[::-1].index("wsd")
        return words[last + 1 :]
    return None


def problem_with(arguments: list[str]) -> str:
    """Let the parser of the command line read arguments, without running the command, and return what is wrong."""
    if arguments in ([], ["--help"], ["--version"]):
        return ""
    name, *rest = arguments
    if name not in WSD.commands:
        return "No such command"
    try:
        WSD.commands[name].make_context(name, rest)
    except typer.Exit:  # --help
        pass
    except Exception as exc:
        if not hasattr(exc, "format_message"):
            raise
        return str(exc.format_message())
    return ""


def test_files_of_the_repository_that_commands_name_exist() -> None:
    named = [(block.place, word) for block, words in all_commands() for word in words]
    ours = [(place, word) for place, word in named if re.match(rf"(?:\./)?(?:{FOLDERS})/", word)]
    assert [(place, word) for place, word in ours if not (ROOT / word.partition("::")[0]).exists()] == []
    assert len(ours) > 2


def test_targets_of_make_that_commands_name_exist() -> None:
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = [(block.place, word) for block, words in all_commands() if words[0] == "make" for word in words[1:]]
    assert [(place, word) for place, word in named if word not in known and "=" not in word] == []
    assert named != []


def test_extras_that_commands_install_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [
        (block.place, extra)
        for block, words in all_commands()
        for word in words
        if (found := re.match(r"wsd-cluster\[([\w,]+)\]", word)) is not None
        for extra in found[1].split(",")
    ]
    assert [(place, extra) for place, extra in named if extra not in project["optional-dependencies"]] == []
    assert named != []


def test_bodies_that_curl_sends_are_json() -> None:
    for block, words in all_commands():
        for word in words if words[0] == "curl" else ():
            if word.startswith("{"):
                assert json.loads(word), block.place


def test_paths_of_wsd_that_curl_asks_for_exist() -> None:
    asked = [
        (block.place, found[1])
        for block, words in all_commands()
        for word in words
        if (found := re.match(r"https?://[^/]+(/(?:api/websocket|v1|health|metrics)\b[^?#]*)", word)) is not None
    ]
    known = {text for text in texts_of_the_code() if text.startswith("/")}
    unknown = [
        (place, path) for place, path in asked if path not in known and f"{path.rpartition('/')[0]}/" not in known
    ]
    assert unknown == []
    assert asked != []


@functools.cache
def texts_of_the_code() -> list[str]:
    """Return the texts in the code of the cluster, without docstrings."""
    texts = []
    for house in ("supervisor", "worker"):
        for path in (ROOT / house).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            texts += [
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
            ]
    return texts


def test_headings_and_labels_in_the_output_of_wsd_are_those_of_the_code() -> None:
    code = "\n".join(texts_of_the_code())
    shown = [(block.place, part) for block in checked("console") for part in fixed_parts(output_of_wsd(block))]
    assert [(place, part) for place, part in shown if not re.search(rf"\b{re.escape(part)}\b", code)] == []
    assert len(shown) > 50


def output_of_wsd(block: Block) -> list[str]:
    """Return the lines that commands of wsd have printed in a block."""
    lines, is_ours = [], False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            words = list(commands(line[2:]))
            is_ours = ["make", "start"] in words or any(arguments_of_wsd(each) is not None for each in words)
        if is_ours:
            lines.append(line)
    return lines


def fixed_parts(lines: list[str]) -> Iterator[str]:
    """Yield what does not vary in an output: the headings of a table, and the label before each value."""
    is_in_table = False
    for line in lines:
        if line.startswith("$ "):
            is_in_table = False
        elif re.fullmatch(r"[A-Z ]+", line):
            is_in_table = True
            yield from line.split()
        elif not is_in_table and (label := re.match(r" *([A-Za-z][A-Za-z0-9, ]*?)  ", line)):
            yield label[1]
