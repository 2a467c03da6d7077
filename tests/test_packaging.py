"""The wheel contains every module, and a user's files called `wsd` do not hide it."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import wsd
from tests.support.apps import APPS

ROOT = Path(__file__).parent.parent
NODE = shutil.which("node")
HOUSES = {
    "public": "wsd",
    "supervisor": "wsd.supervisor",
    "worker": "wsd.worker",
    "clients/python": "wsd.client",
    "clients/publisher": "wsd.publisher",
}
"""The folders of the repository, and the packages as which they are installed."""


def module_names() -> set[str]:
    """Name all modules of the repository as they are imported, without those that run when they are imported."""
    paths = {path: house for house in HOUSES for path in (ROOT / house).rglob("*.py") if path.name != "__main__.py"}
    parts = [(HOUSES[house], *path.relative_to(ROOT / house).with_suffix("").parts) for path, house in paths.items()]
    return {".".join(part for part in names if part != "__init__") for names in parts}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what git tracks, and unpack it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(directory), str(source(directory))], check=True)
    (wheel,) = directory.glob("wsd_cluster-*.whl")
    zipfile.ZipFile(wheel).extractall(directory / "installed")
    return directory / "installed"


def source(directory: Path) -> Path:
    """Copy what the build reads, so that it leaves no files in the repository."""
    copy = directory / "source"
    copy.mkdir()
    names = (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "wsd.toml",
        "public",
        "supervisor",
        "worker",
        "templates",
        "clients",
    )
    subprocess.run(["cp", "-R", *names, str(copy)], cwd=ROOT, check=True)
    return copy


def run(installed: Path, *arguments: str, directory: Path = ROOT) -> str:
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True, check=True).stdout


def test_every_folder_with_modules_is_a_listed_package() -> None:
    folders = {path.parent: house for house in HOUSES for path in (ROOT / house).rglob("*.py")}
    packages = {".".join((HOUSES[of], *folder.relative_to(ROOT / of).parts)) for folder, of in folders.items()}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    assert packages | {"wsd.templates"} == set(listed)
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_every_module_can_be_imported_from_the_wheel(installed: Path) -> None:
    found = dict(line.split() for line in run(installed, "-P", str(APPS / "import_every_module.py")).splitlines())
    assert set(found) | {"wsd"} == module_names() | {"wsd.templates"}
    assert [path for path in found.values() if not path.startswith(str(installed))] == []


def test_every_template_is_in_the_wheel(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}

    assert files(installed / "wsd" / "templates") == files(ROOT / "templates")


@pytest.mark.skipif(NODE is None, reason="no node on PATH")
def test_the_client_in_javascript_is_built_from_its_sources(tmp_path: Path) -> None:
    package = ROOT / "clients" / "js"
    subprocess.run([str(NODE), str(package / "build.mjs"), str(tmp_path)], check=True, timeout=30)
    is_same = (tmp_path / "wsd-client.js").read_bytes() == (package / "wsd-client.js").read_bytes()
    assert is_same, "wsd-client.js is not built from what is in src: run `npm run build` in clients/js"
    assert {path.name for path in tmp_path.iterdir()} == {"wsd-client.js", "wsd-client.cjs", "wsd-client.d.cts"}


def test_the_hub_serves_the_client_of_the_package(installed: Path) -> None:
    served = installed / "wsd" / "templates" / "client.js"
    assert served.read_bytes() == (ROOT / "clients" / "js" / "wsd-client.js").read_bytes()


def test_a_directory_called_wsd_does_not_hide_the_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "wsd" / "worker").mkdir(parents=True)
    code = "import wsd; from wsd import ConnectionManager; print(wsd.__version__, ConnectionManager.__module__)"
    assert run(installed, "-c", code, directory=tmp_path).split() == [
        wsd.__version__,
        "wsd.worker.application.connection_manager",
    ]


def test_a_file_called_wsd_does_not_hide_the_command(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "wsd.py").write_text("raise SystemExit('this is not the package')\n")
    assert wsd.__version__ in run(installed, "-P", "-m", "wsd.supervisor", "--version", directory=tmp_path)


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in wsd.__all__ if not hasattr(wsd, name)] == []
    with pytest.raises(AttributeError, match="module 'wsd' has no attribute 'Missing'"):
        _ = wsd.Missing  # type: ignore[attr-defined]
