"""Tell whether the commit that is checked out can be released, for `.ci/release`.

    python -m docs.site.packages.readiness

Prints the version and the date of the release, or what is to be done first.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
UNRELEASED = "## Unreleased\n"
_HEADING = re.compile(r"^## (?P<version>\S+) \((?P<date>\d{4}-\d{2}-\d{2})\)$", re.MULTILINE)


def problems(version: str, changelog: str, *, tags: Sequence[str], changed: str, js_version: str) -> list[str]:
    """Return what is to be done before the release, a line for each thing.

    `tags`: those of the commit. `changed`: the output of `git status --porcelain`.
    """
    found = []
    if changed:
        found.append(f"commit or remove what git status lists: {changed.split(maxsplit=2)[1]}, and perhaps more")
    if f"v{version}" not in tags:
        found.append(f"tag the commit: git tag v{version}")
    if js_version != version:
        found.append(
            f"clients/js/package.json has version {js_version}, and pyproject.toml {version}: give both the same"
        )
    newest = _HEADING.search(changelog)
    if newest is None or newest["version"] != version:
        found.append(f"head what is new in CHANGELOG.md with: ## {version} (YEAR-MONTH-DAY)")
    elif changelog.partition(UNRELEASED)[2][: newest.start()].partition("\n## ")[0].strip():
        found.append(f"in CHANGELOG.md, move what is under Unreleased to ## {version}")
    return found


def released_on(changelog: str) -> str:
    """Return the date of the newest release."""
    newest = _HEADING.search(changelog)
    assert newest is not None
    return newest["date"]


def main() -> int:
    """Print the version and the date, or what is to be done first."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    js_version = json.loads((ROOT / "clients" / "js" / "package.json").read_text("utf-8"))["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    tags, changed = _git("tag", "--points-at", "HEAD").split(), _git("status", "--porcelain").strip()
    found = problems(version, changelog, tags=tags, changed=changed, js_version=js_version)
    for problem in found:
        print(f"release: {problem}", file=sys.stderr)  # noqa: T201
    if not found:
        print(version, released_on(changelog))  # noqa: T201
    return len(found) > 0


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
