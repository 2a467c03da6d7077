"""Run a supervisor in its event loop, with the control server, signals, systemd and the terminal."""

import asyncio
import contextlib
import logging
import os

from wsd.supervisor.alerts.watch import AlertWatch
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control.commands import begin_action
from wsd.supervisor.control.server import ControlServer
from wsd.supervisor.control.status_report import node_state, report, summary
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.launch.banner import banner
from wsd.supervisor.launch.detach import READY_FD_ENV, leave_terminal
from wsd.supervisor.launch.signals import Signals
from wsd.supervisor.launch.terminal_logs import follow_logs, writes_to
from wsd.supervisor.logs.console import Console
from wsd.supervisor.machine.systemd import Systemd
from wsd.supervisor.peers.inbox import Inbox
from wsd.supervisor.peers.moving import follow_joins
from wsd.supervisor.state_dir.records import SavedState
from wsd.supervisor.supervisor import Supervisor
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)


async def serve(cluster: Cluster, saved: SavedState, console: Console) -> None:
    """Run the cluster until it is stopped or handed over. `saved` is what the previous supervisor left running.

    Raises CommandError when the control socket cannot be opened, with nothing started, or the cluster does not come up.
    """
    ready_fd = os.environ.pop(READY_FD_ENV, None)
    background: list[asyncio.Task[None]] = []
    systemd = Systemd(os.environ)
    operations = Operations()
    supervisor = Supervisor(cluster, operations, saved, console.say)
    cluster.describe = lambda: node_state(report(cluster, operations), cluster.advertised_url)
    signals = Signals(cluster, operations, supervisor.stop, systemd)
    log = cluster.state_dir.log("supervisor")

    def on_ready() -> None:
        systemd.notify("READY=1", f"MAINPID={os.getpid()}")
        background.append(asyncio.create_task(systemd.keep_alive(lambda: summary(report(cluster, operations)))))
        is_kept = "JOURNAL_STREAM" in os.environ or console.as_json
        status = report(cluster, operations)
        for line in banner(cluster, status, is_kept=is_kept, is_detached=ready_fd is not None):
            console.say(line)
        background.append(asyncio.create_task(follow_joins(cluster, operations)))
        if cluster.inbox and cluster.redis_watch is not None:
            inbox = Inbox(cluster, lambda action, body: begin_action(cluster, operations, action, body))
            background.append(asyncio.create_task(inbox.run()))
        logger.info("the cluster is up, %s", count(len(cluster.workers), "worker"), extra=EVENT)
        if ready_fd is not None:
            console.flush()
            leave_terminal(int(ready_fd), log)
        elif not writes_to(log):
            background.append(asyncio.create_task(follow_logs(cluster.state_dir, cluster.children, console)))

    alerts = AlertWatch(cluster, operations)
    signals.handle()
    background.append(asyncio.create_task(signals.reload_on_hangup()))
    try:
        async with ControlServer(cluster, operations, supervisor) as control:
            await supervisor.run(on_ready, control.restore)
    finally:
        await alerts.close()
        if cluster.handing_over:
            signals.leave_to_next()
        for task in background:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
