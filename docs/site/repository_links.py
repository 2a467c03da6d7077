"""The site's pages for files of the repository to which the documentation links.

A page links to such a file as GitHub needs it: `../examples/chat_after.py`. The site has no such file. A hook of MkDocs
adds a page with the source of each linked file, and a page with the list of files of each linked folder.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
NOT_SOURCES = {"__pycache__", "node_modules", ".mypy_cache"}
LANGUAGES = {
    ".py": "python",
    ".js": "js",
    ".html": "html",
    ".sh": "sh",
    ".toml": "toml",
    ".yaml": "yaml",
    ".sql": "sql",
}
_LINK = re.compile(r"\]\((?P<target>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file and folder of the repository that a page links to, and the icon. MkDocs calls it."""
    pages = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    added = set[str]()
    files.append(File.generated(config, "favicon.svg", abs_src_path=str(ROOT / "templates" / "favicon.svg")))
    while pages:
        name, text = pages.pop()
        for target in _links(name, text) - added:
            added.add(target)
            content = _content(target)
            inclusion = InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, source_page(target), content=content, inclusion=inclusion))
            pages.append((source_page(target), content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the links of a page to the pages of `on_files`. MkDocs calls it."""

    def rewritten(match: re.Match[str]) -> str:
        path = repository_path(page.file.src_uri, match["target"])
        if path is None:
            return match[0]
        target = posixpath.relpath(source_page(path), posixpath.dirname(page.file.src_uri))
        return f"]({target}{match['anchor'] or ''})"

    return _LINK.sub(rewritten, markdown)


def repository_path(page: str, target: str) -> str | None:
    """Return the path in the repository to which a page links, or None for a link to a page or file of the site.

    `page`: the path of the page below docs/, or below the site's folder source/ for a page of `on_files`.
    """
    source = page.removeprefix("source/") if page.startswith("source/") else f"docs/{page}"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    if path.startswith(("docs/", "../")) or not (ROOT / path).exists():
        return None
    return path


def source_page(path: str) -> str:
    """Return the path in docs/ of the page that shows a file or folder of the repository."""
    if (ROOT / path).is_dir():
        return f"source/{path}/index.md"
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def _links(page: str, text: str) -> set[str]:
    """Return the paths in the repository to which a page links."""
    targets = {repository_path(page, match["target"]) for match in _LINK.finditer(text)}
    return {target for target in targets if target is not None}


def _content(path: str) -> str:
    """Return the Markdown of the page that shows a file or folder of the repository."""
    source = ROOT / path
    if source.is_dir():
        names = sorted(child.name for child in source.iterdir() if child.name not in NOT_SOURCES)
        return f"# {path}/\n\n" + "".join(f"* [{name}]({name})\n" for name in names if not name.startswith("."))
    try:
        text = source.read_text("utf-8")
    except UnicodeDecodeError:
        return f"# {path}\n\nThis file is not text.\n"
    if path.endswith(".md"):
        return text
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 3)
    return f"# {path}\n\n{fence}{LANGUAGES.get(source.suffix, 'text')}\n{text.rstrip()}\n{fence}\n"
