"""Stop a cluster from outside, whether its supervisor answers, is too busy to answer, or has died."""

import json
import os
import signal
import time

from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.errors import CommandError, NotRunningError
from wsd.supervisor.machine.pidfd import has_ended, send_signal
from wsd.supervisor.processes.orphans import end_leftovers
from wsd.supervisor.processes.recorded import is_alive, names_of
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord

STOP_MARGIN_SECONDS = 20.0
"""How much longer than the drain a stop may take, for nginx, Valkey and the escalation to SIGKILL."""

UNASKED_DRAIN_SECONDS = 120.0
"""How long a supervisor may drain that could not be asked for how long it drains."""

LEFTOVER_SECONDS = 5.0
"""How long the processes of a dead supervisor may drain, unless the caller says so."""


def stop(state_dir: StateDir, patience: float | None) -> str:
    """Stop the cluster, wait until it is gone, and return what was done, in words.

    `patience` is how long its processes may drain, in seconds; None means as configured. Where the supervisor has
    died, its processes are ended here.

    Raises NotRunningError, or CommandError when the supervisor is still there long after it should have ended.
    """
    try:
        stop_and_wait(state_dir, patience)
    except NotRunningError:
        if not (leftovers := _end_leftovers(state_dir, patience)):
            raise
        return f"ended the processes that a dead supervisor had left running: {names_of(leftovers)}"
    _end_leftovers(state_dir, patience)  # of a supervisor that died while it stopped
    return f"stopped the cluster in {state_dir.root}"


def stop_and_wait(state_dir: StateDir, patience: float | None) -> None:
    """Let the supervisor stop, and wait until its process has ended. A supervisor that cannot be asked gets a signal.

    `patience` is how long its processes may drain, in seconds; None means as configured.

    Raises NotRunningError, or CommandError when the supervisor is still there long after it should have ended.
    """
    pidfd = state_dir.lock.open_holder()
    if pidfd is None:  # none runs, or one whose process we cannot see, in a container: its answer tells which
        deadline = time.monotonic() + _ask_to_stop(state_dir, patience) + STOP_MARGIN_SECONDS
        while (holder := state_dir.lock.holder()) is not None:
            if time.monotonic() > deadline:
                raise CommandError(f"the supervisor (pid {holder}) is still there; see {state_dir.log('supervisor')}")
            time.sleep(0.05)
        return
    try:
        try:
            seconds = _ask_to_stop(state_dir, patience)
        except NotRunningError:
            seconds = 0.0  # the supervisor has just ended
        except CommandError:
            seconds = _signal_to_stop(pidfd, patience)
        if not has_ended(pidfd, seconds + STOP_MARGIN_SECONDS):
            holder = state_dir.lock.holder()
            raise CommandError(f"the supervisor (pid {holder}) is still there; see {state_dir.log('supervisor')}")
    finally:
        os.close(pidfd)


def _ask_to_stop(state_dir: StateDir, patience: float | None) -> float:
    """Ask the supervisor to stop, and return how long its drain may take, in seconds.

    Raises NotRunningError or CommandError.
    """
    return float(json.loads(ControlClient(state_dir).call("POST", "/v1/stop", {"timeout": patience}))["seconds"])


def _signal_to_stop(pidfd: int, patience: float | None) -> float:
    """Stop a supervisor whose socket is gone or that is busy; return how long the rest may take, in seconds."""
    if patience != 0:
        send_signal(pidfd, signal.SIGTERM)
        if patience is None:
            return UNASKED_DRAIN_SECONDS
        if has_ended(pidfd, patience):
            return 0.0
    send_signal(pidfd, signal.SIGQUIT)
    return 0.0


def _end_leftovers(state_dir: StateDir, patience: float | None) -> list[ProcessRecord]:
    """End the processes that a dead supervisor has recorded, and return those that were still alive.

    Raises CommandError when one of them cannot be ended, or another supervisor holds the state directory.
    """
    records = state_dir.read_state().processes
    if not records:
        return []
    state_dir.acquire()
    try:
        leftovers = end_leftovers(records, state_dir.root, LEFTOVER_SECONDS if patience is None else patience)
        if stubborn := [record for record in records if is_alive(record, state_dir.root)]:
            raise CommandError(f"{names_of(stubborn)} cannot be ended, not even by SIGKILL; try `wsd stop` again")
        state_dir.clean()
    finally:
        state_dir.lock.release()
    return leftovers
