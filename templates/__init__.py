"""The files that wsd renders, serves or writes: pages, scripts, settings, and templates of configuration files.

Both the supervisor and the worker import this package. It imports neither.
"""

from importlib import resources

PAGE_FILES = {"pages.css": "text/css", "favicon.svg": "image/svg+xml"}
"""The files that every page loads, with their media types."""

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
"""The headers of every page: a page loads its own files only, and runs no script within HTML.

In connect-src, 'self' covers WebSockets of the same host and port (CSP Level 3, section 6.7.2.8).
"""


def template_text(name: str) -> str:
    """Return the text of a file in this folder."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")
