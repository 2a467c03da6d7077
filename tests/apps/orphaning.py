"""Leaves two orphans behind as it is imported, and takes as long to import as there is a file `wait`."""

import subprocess
import time
from pathlib import Path

from starlette.applications import Starlette

subprocess.run(["sh", "-c", "sleep 0.1 & setsid sleep 0.1 &"], check=True)  # both lose their parent
while Path("wait").exists():
    time.sleep(0.01)
app = Starlette()
