"""The accessibility of a page, as axe-core judges it, and whether the page fits into its window."""

from typing import Any

from tests.support.browser import Tab
from tests.support.npm import npm_package

LOOKS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]
"""The widths and the colour schemes in which each page is looked at."""

COUNTED = ("critical", "serious", "moderate")
"""The impacts of the violations that count. A missing landmark is a moderate one."""


def faults(tab: Tab) -> list[str]:
    """Return what is wrong with the page as it is shown now, in all looks. Skips the test without axe-core."""
    source = (npm_package("axe-core") / "axe.min.js").read_text("utf-8")
    if tab.run("typeof axe") == "undefined":
        tab.run(source)
    found: list[str] = []
    for width, scheme in LOOKS:
        tab.look(width=width, scheme=scheme)
        violations: list[dict[str, Any]] = tab.run("axe.run().then((report) => report.violations)")
        for violation in violations:
            if violation["impact"] in COUNTED:
                nodes = [f"{node['target']} {node['html'][:120]}" for node in violation["nodes"][:3]]
                found.append(f"{width} {scheme}: {violation['id']} ({violation['impact']}): {nodes}")
        content: int = tab.run("document.documentElement.scrollWidth")
        if content > width:
            found.append(f"{width} {scheme}: the content is {content} pixels wide, which is wider than the window")
    return found
