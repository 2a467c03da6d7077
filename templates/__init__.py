"""The files that wsd renders, serves or writes: pages, scripts, settings, and templates of configuration files.

Both the supervisor and the worker import this package. It imports neither.
"""

from importlib import resources


def template_text(name: str) -> str:
    """Return the text of a file in this folder."""
    return resources.files(__name__).joinpath(name).read_text("utf-8")
