"""The applications before and after a migration, as a page of docs/migration/ shows them."""

from pathlib import Path

from tests.support.pages import ROOT, blocks


def versions(page: str) -> dict[str, list[str]]:
    """Return the files that a page shows, by name, each with its versions in the order of the page."""
    found: dict[str, list[str]] = {}
    for block in blocks(ROOT / "docs" / "migration" / page):
        if block.title:
            found.setdefault(block.title, []).append(block.text)
    return found


def write(directory: Path, files: dict[str, str]) -> Path:
    """Write files, with the folders that their names have, and return the directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return directory
