"""A program that locks the state directory of its argument, and holds it until its input ends."""

import sys
from pathlib import Path

from wsd.supervisor.state_dir.directory import StateDir

StateDir(Path(sys.argv[1])).acquire()
print("locked", flush=True)
sys.stdin.read()
