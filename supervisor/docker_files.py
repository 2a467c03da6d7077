"""The files that `wsd init --docker` writes: an image of an application, and a Compose stack around two nodes of it.

The image and the stack in deploy/ are rendered from the same templates.
"""

import re
import tomllib
from pathlib import Path

from wsd.supervisor import template
from wsd.templates import template_text

_RELAY_ROLE = r"""
-- The password comes from compose.yaml.
\getenv relay_password RELAY_PASSWORD
ALTER ROLE wsd_relay PASSWORD :'relay_password';
"""


def files(sql: str, *, name: str, app: str, requirements: str, stop_seconds: int) -> dict[str, str]:
    """Return the text of each file by its name, for an application in the folder of the files.

    `sql` makes the outbox and the archive. `app` is "" where wsd.toml names the application, or none is wanted.
    `requirements` is what `find_requirements` returned. `stop_seconds` is the longest time that a node takes to stop.
    """
    values = {"own": False, "folder": "", "name": name, "app": app, "requirements": requirements}
    return _stack(sql, values, stop_seconds) | {".dockerignore": template_text("docker/dockerignore")}


def own_files(sql: str, *, stop_seconds: int) -> dict[str, str]:
    """Return the text of each file by its name, for the folder deploy/ in the sources of wsd."""
    values = {"own": True, "folder": "deploy/", "name": "wsd", "app": "", "requirements": ""}
    return _stack(sql, values, stop_seconds)


def _stack(sql: str, values: dict[str, object], stop_seconds: int) -> dict[str, str]:
    return {
        "Dockerfile": template.render("docker/Dockerfile.j2", **values, stop_seconds=stop_seconds),
        "compose.yaml": template.render("docker/compose.yaml.j2", **values, stop_seconds=stop_seconds),
        "nginx.conf": template_text("docker/nginx.conf"),
        "database.sql": sql + _RELAY_ROLE,
        ".env.example": template_text("docker/env.example"),
    }


def find_requirements(directory: Path) -> str:
    """Return the file from which pip installs an application: requirements.txt, pyproject.toml, or "" for none.

    A pyproject.toml without [project] only configures tools.
    """
    if (directory / "requirements.txt").is_file():
        return "requirements.txt"
    try:
        project = tomllib.loads((directory / "pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return "pyproject.toml" if "project" in project else ""


def image_name(directory: Path) -> str:
    """Return a name for the image and the project: a name for Docker has small letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", directory.name.lower())[:60].strip("-") or "app"
