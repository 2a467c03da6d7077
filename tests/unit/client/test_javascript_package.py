"""The package wsd-client can be installed, imported and required, and its types are right."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.npm import npm_package
from tests.support.waiting import long_run

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "clients" / "js"
NODE, NPM = shutil.which("node"), shutil.which("npm")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node on PATH")

PROGRAM = """
const client = new WsdClient("ws://127.0.0.1:9/ws", { WebSocket: class { close() {} } });
client.onstate = (name) => console.log(name);
queueMicrotask(() => {
  client.close();
  client.publish("room", 1).catch((error) => console.log(error instanceof WsdError, error.code));
});
"""

RIGHT = """
import { WsdClient, WsdError, type Message, type State } from "wsd-client";

const client = new WsdClient(new URL("ws://127.0.0.1/ws"), {
  token: async () => "text",
  requestTimeout: null,
  room: 5,
});
client.onstate = (name, { retryIn }: State) => console.log(name === "waiting" ? (retryIn ?? 0) / 1000 : name);
client.onmessage = ({ data, from }: Message) => console.log(from?.username, data);
client.onleft = ({ channel, code }) => console.log(channel.length + code.length);

async function main(): Promise<void> {
  const say = ({ data }: Message<{ text: string }>) => console.log(data.text);
  const { offset } = await client.subscribe("room", say, { last: 5 });
  await client.subscribe("room", { ongap: async ({ reason }) => console.log(reason) });
  await client.subscribe("orders", null, { token: "text" });
  await client.subscribe("orders", say, { token: async () => (offset ? "text" : null), timeout: 500 });
  await client.publish("room", { text: "hi", at: offset }, { timeout: 500, signal: AbortSignal.timeout(100) });
  const { messages } = await client.history<string>("room", { since: 5, reverse: true });
  const last = messages[0];
  if (last !== undefined) client.markRead("room", last);
  const { delivered } = await client.delivered("room", "ann", { offset: 5, epoch: "e" });
  console.log(delivered, client.welcome?.user_id, client.waiting.bytes, client.discardWaiting());
}
main().catch((error: unknown) => console.log(error instanceof WsdError ? error.code : error));
"""

WRONG = [
    'client.publish(5, "data");',
    "client.onstate = (name: 'gone') => name;",
    'client.subscribe("room", { last: 5 });',
    'client.state.name = "open";',
    'client.history("room", { limit: "5" });',
    "new WsdClient(5);",
    'new WsdClient("ws://x", { token: 5 });',
    'client.subscribe("room", null, { token: 5 });',
    'client.subscribe("room", null, { token: async () => 5 });',
    'client.markRead("room", { offset: "5", epoch: "e" });',
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the package, and install it into a new project."""
    if NPM is None:
        pytest.skip("no npm on PATH")
    directory = tmp_path_factory.mktemp("project")
    packed = subprocess.run(
        [NPM, "pack", "--json", "--pack-destination", str(directory)],
        cwd=PACKAGE,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (tarball,) = json.loads(packed.stdout)
    (directory / "package.json").write_text('{"name": "project", "private": true}')
    command = [NPM, "install", "--offline", "--no-audit", "--no-fund", f"./{tarball['filename']}"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60)
    return directory


def test_the_package_has_the_version_of_wsd_and_no_dependencies() -> None:
    described = json.loads((PACKAGE / "package.json").read_text("utf-8"))
    assert described["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert not [name for name in described if name.lower().endswith("dependencies")]
    assert (PACKAGE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("program.mjs", 'import { WsdClient, WsdError } from "wsd-client";'),
        ("program.cjs", 'const { WsdClient, WsdError } = require("wsd-client");'),
    ],
)
def test_the_installed_package_can_be_imported_and_required(installed: Path, name: str, line: str) -> None:
    (installed / name).write_text(line + PROGRAM)
    command = [str(NODE), name]
    result = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=30)
    assert (result.stdout.split(), result.stderr) == (["connecting", "closed", "true", "closed"], "")


def checked_types(installed: Path, program: str) -> subprocess.CompletedProcess[str]:
    (installed / "program.mts").write_text(program)
    compiler = npm_package("typescript") / "bin" / "tsc"
    options = ["--noEmit", "--strict", "--module", "nodenext", "--lib", "es2022,dom"]
    command = [str(NODE), str(compiler), *options, "program.mts"]
    return subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=120)


@long_run
def test_the_types_accept_what_is_right_and_refuse_what_is_wrong(installed: Path) -> None:
    result = checked_types(installed, "\n".join([*RIGHT.splitlines(), *WRONG]))
    first = len(RIGHT.splitlines()) + 1
    told = {int(line.partition("(")[2].partition(",")[0]) for line in result.stdout.splitlines() if "error TS" in line}
    assert told == set(range(first, first + len(WRONG))), result.stdout
