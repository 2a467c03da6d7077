"""The logs of all processes on the terminal of a supervisor in the foreground."""

import asyncio
import os
import sys
from itertools import chain
from pathlib import Path

from wsd.supervisor.logs.console import Console
from wsd.supervisor.logs.follow import LogFollower
from wsd.supervisor.logs.prefixes import prefixes
from wsd.supervisor.processes.children import Children
from wsd.supervisor.state_dir.directory import StateDir

FOLLOW_SECONDS = 0.2
"""Pause between two looks at the log files."""


def writes_to(log: Path) -> bool:
    """Tell whether our standard output is this file, as it is once we have left the terminal."""
    return os.path.samestat(os.fstat(sys.stdout.fileno()), log.stat())


async def follow_logs(state_dir: StateDir, children: Children, console: Console) -> None:
    """Show what all processes log from now on, those that are added later among them, until cancelled."""
    names = ["supervisor", *(child.service.name for child in children)]
    labels = prefixes(names, colour=console.colour)
    follower = LogFollower({name: state_dir.log(name) for name in names})
    lines = follower.lines()
    try:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            for child in children:
                if child.slot.name not in labels:
                    follower.add(child.slot.name, state_dir.log(child.slot.name), child.log_start)
                    names.append(child.slot.name)
                    labels = prefixes(names, colour=console.colour)
            lines = follower.lines()
            for name, text in lines:
                console.show(name, text, labels[name])
                await console.room()  # the files keep the rest until somebody reads again
    finally:
        for name, text in chain(lines, follower.lines()):
            console.show(name, text, labels[name])
