"""A program that runs a command as systemd does with a socket: `python activate.py DESCRIPTOR COMMAND ...`.

The descriptor becomes 3, and LISTEN_PID names the process that gets it, as sd_listen_fds(3) says.
"""

import os
import sys

held, *command = sys.argv[1:]
os.dup2(int(held), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(command[0], command)
