"""Starting a supervisor: in the foreground with its terminal, or detached from it; and what comes before."""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from logging.handlers import WatchedFileHandler
from pathlib import Path

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.sections import LogConfig
from wsd.supervisor.control import commands
from wsd.supervisor.control.client import stop_and_wait
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.control.status_report import summary
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.upgrade import SIGNALS, become_the_next, inherited_lock, take_stock
from wsd.supervisor.errors import CommandError, ExitCode, NotRunningError
from wsd.supervisor.logs.console import Console
from wsd.supervisor.logs.follow import LogFollower, prefixes
from wsd.supervisor.machine.file_limit import raise_file_limit
from wsd.supervisor.machine.ports import check_port, check_socket
from wsd.supervisor.machine.private_files import append_to
from wsd.supervisor.machine.systemd import Systemd, public_socket
from wsd.supervisor.processes.orphans import end_leftovers
from wsd.supervisor.processes.records import is_alive, names_of
from wsd.supervisor.state_dir import ProcessRecord, StateDir
from wsd.supervisor.supervisor import Supervisor
from wsd.worker.contract.events import EVENT, EventHandler
from wsd.worker.contract.log_format import JsonFormatter, LineFormatter

logger = logging.getLogger(__name__)

READY_FD_ENV = "WSD_READY_FD"
HANGUP_SECONDS = 0.1
PRIVATE_UMASK = 0o077
"""Of the supervisor, nginx and Valkey: their files are for their user alone. Applications keep the user's own."""

FOLLOW_SECONDS = 0.2
LEFTOVER_SECONDS = 5.0


def foreground(loaded: Loaded) -> None:
    """Run the cluster until it is stopped. Raises CommandError."""
    public = public_socket(os.environ)
    state_dir = StateDir(loaded.state_dir)
    # Of a detached start, a person reads the beginning.
    console = Console(as_json=loaded.config.log.format == "json" and READY_FD_ENV not in os.environ)
    umask = os.umask(PRIVATE_UMASK)
    state_dir.lock(inherited_lock(os.environ))
    serves_on = True
    try:
        state_dir.create()
        _log_to(state_dir, loaded.config.log)
        if _moves_with_release(loaded):
            console.say(
                f"the state directory {state_dir.root} is in the release that {loaded.directory} leads to now: set "
                "cluster.state_dir to a place outside, or commands in the next release will not find this cluster"
            )
        cluster = loaded.config.cluster
        left = take_stock(state_dir)
        state_dir.clean_sockets()
        serves_on = bool(left.processes)
        if serves_on:
            console.say("going on with what a supervisor before us had started")
            logger.info("going on with %d processes of a supervisor before us", len(left.processes), extra=EVENT)
        elif public is None:
            check_port(cluster.host, cluster.port)
        if public is not None:
            check_socket(cluster.host, cluster.port, public)
        raise_file_limit()
        supervisor = Supervisor(loaded, state_dir, console.say, left, umask=umask, public_socket=public)
        try:
            asyncio.run(_run(supervisor, console))
        except CommandError:
            raise
        except BaseException:
            # Ours to mend, not theirs to pay for: what serves goes on, and state.json still says what that is.
            supervisor.handing_over = True
            logger.exception("the supervisor failed")
            raise CommandError(
                f"the supervisor failed, see {state_dir.log('supervisor')}; its processes serve on until "
                "`wsd stop`, or the next `wsd start` takes them over"
            ) from None
        finally:
            serves_on = supervisor.handing_over
            console.flush()
        if supervisor.handing_over:
            os.umask(umask)
            become_the_next(state_dir, loaded.here)
    finally:
        # What still runs must be found, whatever has ended us.
        if not serves_on and not any(is_alive(record, state_dir.root) for record in state_dir.read_state().processes):
            state_dir.clean()
        state_dir.unlock()
        console.flush()


def _moves_with_release(loaded: Loaded) -> bool:
    """Whether a symbolic link, as deployments have it, leads to the directory that the state directory is in."""
    directory = loaded.directory
    is_link = any(path.is_symlink() for path in (directory, directory.parent))
    return is_link and loaded.state_dir.is_relative_to(directory.resolve())


async def _run(supervisor: Supervisor, console: Console) -> None:
    ready_fd = os.environ.pop(READY_FD_ENV, None)
    background: list[asyncio.Task[None]] = []
    systemd = Systemd(os.environ)
    for_the_next: set[signal.Signals] = set()
    reload_wanted = asyncio.Event()

    def on_ready() -> None:
        systemd.notify("READY=1", f"MAINPID={os.getpid()}")
        background.append(asyncio.create_task(systemd.keep_alive(lambda: summary(supervisor.status()))))
        for line in banner(supervisor, is_kept="JOURNAL_STREAM" in os.environ or console.as_json):
            console.say(line)
        logger.info("the cluster is up, %d workers", len(supervisor.workers), extra=EVENT)
        if ready_fd is not None:
            console.flush()
            _leave_terminal(int(ready_fd), supervisor.state_dir.log("supervisor"))
        elif not _writes_to(supervisor.state_dir.log("supervisor")):
            background.append(asyncio.create_task(_follow_logs(supervisor, console)))

    def stop(signum: signal.Signals) -> None:
        if supervisor.handing_over:
            for_the_next.add(signum)
            return
        systemd.notify("STOPPING=1")
        asked_by.set(signum.name)
        supervisor.stop(0 if supervisor.stopping or signum is signal.SIGQUIT else None)

    def on_hangup() -> None:
        if had_terminal and not _has_terminal():
            stop(signal.SIGHUP)
            return
        current = supervisor.operations.current
        if current is not None and not current.done:
            logger.info("SIGHUP: the settings are read again after the %s", current.name)
        reload_wanted.set()

    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        loop.add_signal_handler(signum, stop, signum)
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(signum, logger.warning, "%s is ignored: it means nothing here", signum.name)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else whoever started us said so (nohup)
        # The kernel signals before it takes the terminal away.
        loop.add_signal_handler(signal.SIGHUP, loop.call_later, HANGUP_SECONDS, on_hangup)
    loop.add_signal_handler(signal.SIGCHLD, supervisor.children.reap_orphans)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the code before us may have kept them for us
    background.append(asyncio.create_task(_reload_for_ever(supervisor, systemd, reload_wanted)))
    try:
        await supervisor.run(on_ready)
    finally:
        if supervisor.handing_over:
            if reload_wanted.is_set():
                for_the_next.add(signal.SIGHUP)
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            for signum in for_the_next:
                os.kill(os.getpid(), signum)
        for task in background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _reload_for_ever(supervisor: Supervisor, systemd: Systemd, wanted: asyncio.Event) -> None:
    """Read the settings again whenever that is wanted, after what is under way, until cancelled."""
    while True:
        await wanted.wait()
        await supervisor.operations.until_free()
        wanted.clear()
        asked_by.set("SIGHUP")
        try:
            operation = commands.reload(supervisor)
        except CommandError as exc:
            logger.warning("SIGHUP: %s", exc)
            continue
        systemd.reloading()
        async for _ in operation.follow():
            pass
        systemd.notify("READY=1")


def _writes_to(log: Path) -> bool:
    """Whether our standard output is that file, as it is once we have left the terminal."""
    return os.path.samestat(os.fstat(sys.stdout.fileno()), log.stat())


def _has_terminal() -> bool:
    """Whether a terminal controls this process, tty(4)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def _follow_logs(supervisor: Supervisor, console: Console) -> None:
    """Show what is logged from now on, of processes that are added later, too, until cancelled."""
    names = ["supervisor", *(child.service.name for child in supervisor.children)]
    labels = prefixes(names, colour=console.colour)
    follower = LogFollower({name: supervisor.state_dir.log(name) for name in names})
    lines = follower.lines()
    try:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            for child in supervisor.children:
                if child.slot.name not in labels:
                    follower.add(child.slot.name, supervisor.state_dir.log(child.slot.name), child.log_start)
                    names.append(child.slot.name)
                    labels = prefixes(names, colour=console.colour)
            lines = follower.lines()
            for name, text in lines:
                console.show(name, text, labels[name])
                await console.room()  # the files keep the rest until somebody reads again
    finally:
        for name, text in chain(lines, follower.lines()):
            console.show(name, text, labels[name])


def stop(state_dir: StateDir, patience: float | None) -> str:
    """Stop the cluster and wait until it is gone; what was done, in words. `patience`: seconds for the drain.

    Where its supervisor died, its processes are ended here. Raises NotRunningError, or CommandError when the
    supervisor is still there long after it should have ended.
    """
    try:
        stop_and_wait(state_dir, patience)
    except NotRunningError:
        if not (leftovers := _end_leftovers(state_dir, patience)):
            raise
        return f"ended what a supervisor that died had left running: {names_of(leftovers)}"
    _end_leftovers(state_dir, patience)  # of one that died while it stopped
    return f"stopped the cluster in {state_dir.root}"


def _end_leftovers(state_dir: StateDir, patience: float | None) -> list[ProcessRecord]:
    """End what a dead supervisor has recorded, and return what was still alive. Raises CommandError."""
    records = state_dir.read_state().processes
    if not records:
        return []
    state_dir.lock()
    try:
        leftovers = end_leftovers(records, state_dir.root, LEFTOVER_SECONDS if patience is None else patience)
        if stubborn := [record for record in records if is_alive(record, state_dir.root)]:
            raise CommandError(f"{names_of(stubborn)} cannot be ended, not even by SIGKILL; try `wsd stop` again")
        state_dir.clean()
    finally:
        state_dir.unlock()
    return leftovers


def detach(loaded: Loaded, arguments: Sequence[str]) -> int:
    """Start a supervisor without a terminal; returns its exit code, or 0 once its cluster is ready.

    Until then its words go to our terminal.
    """
    read_end, write_end = os.pipe()
    argv = [sys.executable, "-P", "-m", "wsd.supervisor", *(a for a in arguments if a != "--detach")]
    process = subprocess.Popen(
        argv,
        env={**os.environ, READY_FD_ENV: str(write_end)},
        stdin=subprocess.DEVNULL,
        pass_fds=[write_end],
        start_new_session=True,
    )
    os.close(write_end)
    try:
        if os.read(read_end, 1):
            return ExitCode.OK
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
    finally:
        os.close(read_end)
    return process.wait()


def _leave_terminal(ready_fd: int, log: Path) -> None:
    """Tell who waits that we are ready; from here on nobody reads our terminal."""
    with append_to(log) as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    os.write(ready_fd, b"1")
    os.close(ready_fd)


def banner(supervisor: Supervisor, *, is_kept: bool) -> list[str]:
    """Return what is said of a cluster that is up. `is_kept`: it goes to a journal that others may read."""
    config = supervisor.config
    status = supervisor.status()
    redis = status.redis
    kind = f"embedded Valkey ({redis.url})" if redis.embedded else redis.url or "none: every worker stands alone"
    if redis.url and not redis.reachable:
        kind = f"{redis.url} (not reachable, local mode)"
    option = (
        f" --state-dir {status.state_dir}"
        if supervisor.loaded.state_dir != (supervisor.loaded.here / ".wsd").resolve()
        else ""
    )
    rows = [
        ("open", status.url),
        (
            "WebSocket",
            status.websocket_url if not config.cluster.app else f"as {config.cluster.app} serves it",
        ),
        *([("dashboard", _dashboard(status, is_kept=is_kept))] if status.dashboard_url else []),
        ("workers", f"{len(status.workers)} on node {status.node_id}"),
        ("Redis", kind),
        ("state", status.state_dir),
        ("see", f"wsd status{option}"),
        ("stop", f"Ctrl-C, or wsd stop{option}"),
    ]
    lines = [f"  {name:<10} {value}" for name, value in rows]
    return ["", f"wsd is {'up' if not status.problems else 'up, but degraded'}", *lines, ""]


def _dashboard(status: ClusterStatus, *, is_kept: bool) -> str:
    """Return the dashboard's address; with its token for a terminal only."""
    if is_kept and "?" in status.dashboard_url:
        return f"{status.dashboard_url.partition('?')[0]} (`wsd status` shows its token)"
    return status.dashboard_url


class LogFile(WatchedFileHandler):
    """The supervisor's log, opened anew when somebody has removed it. A line that cannot be written ends nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # of opening it anew
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Say nothing of a full disk: the terminal would get a traceback for every line."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def _log_to(state_dir: StateDir, config: LogConfig) -> None:
    """Our own events go to a log file like everybody's; the terminal follows it."""
    handler = LogFile(state_dir.log("supervisor"), encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(handlers=[handler], level=config.level.upper(), force=True)
    root = logging.getLogger()
    root.handlers[0].setFormatter(
        JsonFormatter(process="supervisor")
        if config.format == "json"
        else LineFormatter("%(asctime)s %(levelname)s %(message)s")
    )
    root.addHandler(EventHandler(str(state_dir.events), "supervisor"))
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
