"""The code blocks of the pages in Markdown."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "clients").glob("*/README.md"))]
"""All pages whose blocks the tests check."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}) *(?P<language>[^\s`]*)(?: +title=\"(?P<title>[^\"]*)\")?.*$")
_COMMENT = re.compile(r"^ *<!-- (?P<name>continues|not checked)(?:: (?P<text>.+))? -->$")


@dataclass(frozen=True)
class Block:
    """A fenced code block of a page.

    A comment in the line above the fence instructs the tests: `<!-- continues -->` for Python code that goes on from
    the previous Python block of the page, and `<!-- not checked: REASON -->` for code that no test can run or check.
    """

    page: Path
    line: int
    """The line of the opening fence, counted from 1."""
    language: str
    """The first word after the fence; "" without one."""
    title: str
    """The name of the file that the block shows; "" without one."""
    text: str
    continues: bool
    not_checked: str
    """The reason why no test checks the block; "" for a block that is checked."""

    @property
    def place(self) -> str:
        """The page and the line of the block, as an error names them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in their order."""
    found: list[Block] = []
    lines = iter(enumerate(page.read_text("utf-8").splitlines(), 1))
    above = ""
    for number, line in lines:
        if (opening := _FENCE.match(line)) is None:
            above = line
            continue
        content: list[str] = []
        for _, inner in lines:
            if inner.strip().startswith(opening["fence"]) and not inner.strip().strip("`"):
                break
            content.append(inner.removeprefix(opening["indent"]))
        comment = _COMMENT.match(above)
        found.append(
            Block(
                page=page,
                line=number,
                language=opening["language"],
                title=opening["title"] or "",
                text="".join(f"{text}\n" for text in content),
                continues=comment is not None and comment["name"] == "continues",
                not_checked=(comment["text"] or "no reason given")
                if comment is not None and comment["name"] == "not checked"
                else "",
            )
        )
        above = ""
    return found


def checked(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages, without those that no test can check."""
    found = [block for page in PAGES for block in blocks(page)]
    return [block for block in found if block.language in languages and not block.not_checked]


def files(page: Path) -> dict[str, str]:
    """Return the files that a page shows, by name. Of several blocks with one title, the last one counts."""
    return {block.title: block.text for block in blocks(page) if block.title}


def write_files(page: Path, directory: Path) -> None:
    """Write the files that a page shows into a directory."""
    for name, text in files(page).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
