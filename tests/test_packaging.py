"""The wheel contains every module: setuptools packs only the packages that pyproject.toml lists."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOUSES = ("supervisor", "worker", "templates")


def listed_packages() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"])


def test_every_folder_with_modules_is_a_listed_package() -> None:
    folders = {path.parent for house in HOUSES for path in (ROOT / house).rglob("*.py")}
    packages = {"wsd." + ".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert packages | {"wsd.templates"} == listed_packages()


def test_every_folder_with_modules_is_a_regular_package() -> None:
    folders = {path.parent for house in ("supervisor", "worker") for path in (ROOT / house).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
