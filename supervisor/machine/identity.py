"""The marks by which the processes of a cluster are recognised.

A pid alone proves nothing, because the kernel reuses pids. A recorded process is recognised by its boot, by its start
time in ticks since that boot, and by the mark that it carries. None of the three depends on the wall clock, which may
be changed at any time.
"""

import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

from wsd.supervisor.machine.pidfd import has_ended, pidfd_of, send_signal
from wsd.supervisor.machine.procfs import environment_of, members_of, stat_of

MARK = "WSD_CLUSTER_DIR"
"""The environment variable in which every process of a cluster carries the path of its state directory."""

GROUP_ROUNDS = 10
"""How often a process group is searched again for members that were forked in the meantime."""


def carries_mark(pid: int, root: Path, worker_id: str = "") -> bool:
    """Tell whether a process shows that it belongs to the cluster in the state directory `root`.

    The mark is in its environment. nginx, Valkey and other programs that change their process title overwrite the
    environment that /proc shows. They are recognised by their output, which goes to a log file of the cluster.
    """
    resolved = root.resolve()
    with suppress(OSError):
        environment = environment_of(pid)
        if os.fsencode(f"{MARK}={resolved}") in environment:
            return True
        if worker_id and f"WORKER_ID={worker_id}".encode() in environment:
            return True
    logs = resolved / "logs"
    for descriptor in (1, 2):
        with suppress(OSError):
            if Path(f"/proc/{pid}/fd/{descriptor}").readlink().is_relative_to(logs):
                return True
    return False


def signal_group(group: int, signum: signal.Signals, root: Path, *, leader: int | None = None) -> None:
    """Send a signal to the members of a process group that belong to the cluster in `root`.

    `leader` is a pidfd of the group's leader, which must belong to the cluster. While the leader lives, its pid cannot
    be reused for another group, so all members belong to the cluster. Without a living leader, each member must carry
    the mark.
    """
    done: set[int] = set()
    for _ in range(GROUP_ROUNDS):
        found = [pid for pid in members_of(group) if pid not in done]
        if not found:
            return
        with ExitStack() as opened:
            pidfds = {}
            for pid in found:
                with suppress(OSError):
                    pidfds[pid] = pidfd_of(pid)
                    opened.callback(os.close, pidfds[pid])
            # Checked only now: members found before the leader ended were members of the leader's group.
            is_ours = leader is not None and not has_ended(leader)
            for pid, pidfd in pidfds.items():
                stat = stat_of(pid)
                if stat is not None and stat.group == group and (is_ours or carries_mark(pid, root)):
                    with suppress(OSError):
                        send_signal(pidfd, signum)
        done.update(found)
