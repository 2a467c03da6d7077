"""A hook of the site: put what is generated into the pages of the reference.

In these pages `<!-- generated: NAME -->` stands where it goes. What follows the mark is for readers of the file itself,
who are told where to look instead.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.append(str(Path(__file__).parent.parent.parent))  # where docs.site is; MkDocs restores the path

from docs.site.reference import http_api, websocket
from docs.site.reference.commands import commands
from docs.site.reference.javascript import javascript
from docs.site.reference.metrics import metrics
from docs.site.reference.python_api import python, python_client, python_publisher, python_testing
from docs.site.reference.settings import settings

MARK = re.compile(r"<!-- generated: (\w+) -->.*", re.DOTALL)

PAGES = {
    "commands": commands,
    "http": http_api.http_api,
    "javascript": javascript,
    "metrics": metrics,
    "python": python,
    "python_client": python_client,
    "python_publisher": python_publisher,
    "python_testing": python_testing,
    "settings": settings,
    "websocket": websocket.websocket,
}
"""What makes the text for each name."""

DOCUMENTS = {"reference/openapi.json": http_api.document, "reference/asyncapi.json": websocket.document}
"""The files that the site offers beside its pages."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the mark in a page, and what follows it."""
    return MARK.sub(lambda found: PAGES[found[1]](), markdown)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the documents."""
    for path, document in DOCUMENTS.items():
        files.append(File.generated(config, path, content=document()))
    return files
