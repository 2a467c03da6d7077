"""The site of the documentation."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.pages import ROOT, blocks

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"


def test_the_site_is_built_without_a_warning_and_shows_the_sources_it_links_to(tmp_path: Path) -> None:
    subprocess.run(["make", ".types/wsd"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(CONFIG), "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "migration" / "fastapi.html").read_text("utf-8")
    assert 'href="../source/examples/chat_rooms/index.html"' in page
    assert (tmp_path / "source" / "examples" / "chat_rooms" / "index.html").is_file()
    assert "ConnectionManager" in (tmp_path / "source" / "examples" / "from_own_manager.py.html").read_text("utf-8")

    assert "WSD_NGINX_WORKERS" in (tmp_path / "reference" / "settings.html").read_text("utf-8")
    assert 'id="wsd.Cluster.publish"' in (tmp_path / "reference" / "python.html").read_text("utf-8")
    assert json.loads((tmp_path / "reference" / "openapi.json").read_bytes())["openapi"] == "3.1.0"


def test_blocks_of_a_page_are_found_with_their_titles_and_comments(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '```python title="a.py"\nx = 1\n```\n\n* item\n\n  <!-- continues -->\n  ```python\n  y = x\n  ```\n'
        "<!-- not checked: needs an account -->\n````sh\n```\nls\n````\n"
    )
    first, second, third = blocks(page)
    assert (first.title, first.text, first.line, first.continues) == ("a.py", "x = 1\n", 1, False)
    assert (second.language, second.text, second.continues) == ("python", "y = x\n", True)
    assert (third.text, third.not_checked) == ("```\nls\n", "needs an account")
