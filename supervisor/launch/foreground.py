"""`wsd start`: run a cluster in the foreground, from taking the lock on its state directory until its release."""

import asyncio
import logging
import os

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import Config
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.leftovers import take_stock
from wsd.supervisor.deploys.upgrade import execute_installed_version, inherited_lock
from wsd.supervisor.errors import CommandError
from wsd.supervisor.launch.detach import READY_FD_ENV
from wsd.supervisor.launch.serving import serve
from wsd.supervisor.logs.console import Console
from wsd.supervisor.logs.supervisor_log import log_to
from wsd.supervisor.machine.file_limit import raise_file_limit
from wsd.supervisor.machine.ports import check_port, check_socket
from wsd.supervisor.machine.systemd import public_socket
from wsd.supervisor.processes.recorded import is_alive
from wsd.supervisor.services.programs import choose_programs
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

PRIVATE_UMASK = 0o077
"""The umask of the supervisor, nginx and Valkey, whose files are for their user alone. Applications keep the user's."""


def run_in_foreground(loaded: Loaded) -> None:
    """Run the cluster until it is stopped. Raises CommandError."""
    public = public_socket(os.environ)
    state_dir = StateDir(loaded.state_dir)
    # A person reads the beginning of a detached start, so it is no JSON.
    console = Console(as_json=loaded.config.log.format == "json" and READY_FD_ENV not in os.environ)
    umask = os.umask(PRIVATE_UMASK)
    state_dir.acquire(inherited_lock(os.environ))
    serves_on = True
    try:
        saved = _prepare(loaded, state_dir, console)
        serves_on = bool(saved.processes)
        _check_addresses(loaded.config, public, is_served=serves_on)
        raise_file_limit()
        programs = choose_programs(loaded.config, state_dir, public)
        cluster = Cluster(loaded, state_dir, saved, programs, umask=umask)
        try:
            asyncio.run(serve(cluster, saved, console))
        except CommandError:
            raise
        except BaseException:
            # A fault of the supervisor must not end what serves; state.json still says what that is.
            cluster.handing_over = True
            logger.exception("the supervisor failed")
            raise CommandError(
                f"the supervisor failed, see {state_dir.log('supervisor')}; its processes keep running until "
                "`wsd stop`, or the next `wsd start` takes them over"
            ) from None
        finally:
            serves_on = cluster.handing_over
            console.flush()
        if cluster.handing_over:
            os.umask(umask)
            execute_installed_version(state_dir, loaded.here)
    finally:
        # Whatever has ended the supervisor: the processes that still run must be found again.
        if not serves_on and not any(is_alive(record, state_dir.root) for record in state_dir.read_state().processes):
            state_dir.clean()
        state_dir.lock.release()
        console.flush()


def _prepare(loaded: Loaded, state_dir: StateDir, console: Console) -> SavedState:
    """Make the state directory and the log ready; return what the previous supervisor left running.

    Raises CommandError.
    """
    state_dir.create()
    log_to(state_dir.log("supervisor"), state_dir.events, loaded.config.log)
    if _moves_with_release(loaded):
        console.say(
            f"the state directory {state_dir.root} is in the release that {loaded.directory} leads to now: set "
            "cluster.state_dir to a place outside, or commands in the next release will not find this cluster"
        )
    saved = take_stock(state_dir)
    state_dir.clean_sockets()
    if saved.processes:
        console.say("taking over the processes of the previous supervisor")
        text = "taking over %s of the previous supervisor"
        logger.info(text, count(len(saved.processes), "process"), extra=EVENT)
    return saved


def _check_addresses(config: Config, public: int | None, *, is_served: bool) -> None:
    """Check that the public addresses are free, or that the socket `public`, which systemd holds, listens there.

    With `is_served`, processes that are taken over listen there. Raises StartError.
    """
    cluster, nginx = config.cluster, config.nginx
    if public is not None:
        check_socket(cluster.host, cluster.port, public)
    elif not is_served:
        check_port(cluster.host, cluster.port)
    if nginx.enabled and nginx.tls_redirect_port and not is_served:
        check_port(cluster.host, nginx.tls_redirect_port, "nginx.tls_redirect_port")


def _moves_with_release(loaded: Loaded) -> bool:
    """Tell whether the state directory is in a release to which a symbolic link leads, as deployments have it."""
    directory = loaded.directory
    is_link = any(path.is_symlink() for path in (directory, directory.parent))
    return is_link and loaded.state_dir.is_relative_to(directory.resolve())
