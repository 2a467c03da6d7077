"""Write the README as the package index shows it, where links to files of the repository lead nowhere.

    python -m docs.site.packages.description FILE

The file is rewritten.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
_IMAGE_LINE = re.compile(r"^!\[[^\]]*\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?!https?:|#)[^)]*)\)")


def description(readme: str, files_url: str = "") -> str:
    """Return the README with its links to files made absolute, or as plain text where the project has no URL.

    `files_url`: where the files of the repository are, such as `https://example.com/wsd/blob/v1.0.0`.
    """
    if files_url:
        return _LINK.sub(rf"\g<image>[\g<text>]({files_url}/\g<target>)", readme)
    return _LINK.sub(r"\g<text>", _IMAGE_LINE.sub("", readme))


def files_url() -> str:
    """Return the URL of the repository's files in this version, or an empty text if the project names no Source."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    source = project.get("urls", {}).get("Source", "")
    return f"{source}/blob/v{project['version']}" if source else ""


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(description(file.read_text("utf-8"), files_url()), "utf-8")
