"""Commands that change a running cluster: the supervisor does it, here it is asked for, and its progress shown."""

from typing import Annotated

import typer

from wsd.supervisor.cli.options import (
    ConfigOption,
    JsonOption,
    SlotArgument,
    StateDirOption,
    ask,
    find_state_dir,
    operate,
)
from wsd.supervisor.errors import CommandError, ExitCode
from wsd.supervisor.machine.terminal import say, show_json


def restart(
    slots: Annotated[list[int] | None, typer.Argument(metavar="[SLOT]...", min=1, help="Default: all")] = None,
    surge: Annotated[
        bool | None,
        typer.Option(
            "--surge/--one-by-one", help="All new processes first, or slot after slot; default: as memory allows"
        ),
    ] = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the workers' processes, for new code say.

    No handshake fails, and clients resume. New processes start beside the old ones and take over once they are
    healthy; the old ones close their connections over cluster.drain_seconds. With --surge each client moves
    once; --one-by-one needs less memory.

    Exit code 1: a new process did not become healthy; the old ones go on.

    Example: wsd restart
    Example: wsd restart 2 3 --one-by-one
    """
    operate(config, state_dir, "/v1/restart", {"slots": slots or [], "surge": surge}, as_json=as_json)


def scale(
    workers: Annotated[int, typer.Argument(metavar="N", min=1, max=256, help="How many workers there are to be")],
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the number of workers, while the cluster runs.

    Those that go drain, the last first. Lasts until the cluster stops; cluster.workers in wsd.toml is for the next
    start.

    Exit code 1: a new worker did not become healthy; there are as many as before.

    Example: wsd scale 6
    """
    operate(config, state_dir, "/v1/scale", {"workers": workers}, as_json=as_json)


def rebalance(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Spread the connections evenly over this node's workers.

    Workers with more than their share close those that they have longest with 1012, and these clients resume
    where fewer are. Not with nginx.affinity "ip", where a client's address says on which worker it is.

    Example: wsd scale 8 && wsd rebalance
    """
    operate(config, state_dir, "/v1/rebalance", {}, as_json=as_json)


def reload(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Read wsd.toml again, and apply what has changed.

    Nobody is dropped; SIGHUP does the same. nginx is reloaded and workers are replaced as far as they are
    concerned. Settings that only a new start can change are refused, and then none is applied.

    Exit code 1: refused, or a worker did not become healthy with the new settings; nothing has changed.

    Example: wsd reload
    """
    operate(config, state_dir, "/v1/reload", {}, as_json=as_json)


def drain(
    slot: SlotArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a slot out of service, until `wsd resume`.

    Its clients resume on the others.

    Example: wsd drain 3
    """
    operate(config, state_dir, "/v1/drain", {"slot": slot}, as_json=as_json)


def resume(
    slot: SlotArgument,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a drained slot back into service.

    Example: wsd resume 3
    """
    operate(config, state_dir, "/v1/resume", {"slot": slot}, as_json=as_json)


def upgrade(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Let the supervisor become the wsd that is installed.

    Workers, nginx and Valkey serve on. The workers stay as they are: `wsd restart` replaces them.

    Example: pip install --upgrade wsd-cluster && wsd upgrade && wsd restart
    """
    from wsd.supervisor.control.client import upgrade_and_wait  # noqa: PLC0415

    pid = upgrade_and_wait(find_state_dir(config, state_dir))
    if as_json:
        show_json({"pid": pid})
    else:
        say(f"supervisor (pid {pid}) is new, everything else goes on")


def kick(
    who: Annotated[str, typer.Argument(metavar="SESSION|USER", help="A session id, or a user id")],
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a session, or all of a user, on all nodes.

    They are closed with 4500, and not resumed.

    Exit code 1 when there is none.

    Example: wsd kick ann
    """
    answer = ask(config, state_dir, "POST", "/v1/kick", {"who": who})
    if as_json:
        show_json(answer)
    elif not answer["sessions"]:
        raise CommandError(f'there is no session, and no user with one, called "{who}"')
    else:
        for session in answer["sessions"]:
            say(f"ended session {session['session_id']} of {session['user_id']} on {session['worker_id']}")
    if not answer["sessions"]:
        raise typer.Exit(ExitCode.FAILURE)
