"""The lines of `wsd doctor`: one finding each, with its remedy below it."""

from rich.text import Text

from wsd.supervisor.machine.terminal import console, say, shown
from wsd.supervisor.monitoring.finding import Finding, Grade

GRADE_STYLES = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FAILURE: "bold red"}


def print_finding(finding: Finding) -> None:
    text = shown(f"{finding.check}: {finding.found}")
    console().print(Text.assemble((f"{finding.grade:<8}", GRADE_STYLES[finding.grade]), text), soft_wrap=True)
    if finding.remedy:
        say(f"        -> {finding.remedy}")
