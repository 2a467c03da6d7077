"""What the commands have in common: their options, and how they ask the cluster.

What only one command needs is imported in it: `wsd --help` must answer at once.
"""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsd.supervisor.errors import CommandError, ExitCode
from wsd.supervisor.machine.terminal import say, show_json_line

if TYPE_CHECKING:
    from wsd.supervisor.config.keys import Key
    from wsd.supervisor.config.loading import Loaded
    from wsd.supervisor.state_dir import StateDir

# Values are text here and typed by the configuration, so that a wrong one is told in the same words everywhere.
ConfigOption = Annotated[str | None, typer.Option("--config", metavar="FILE", help="Default: ./wsd.toml")]
StateDirOption = Annotated[str | None, typer.Option("--state-dir", metavar="DIR", help="Default: .wsd beside wsd.toml")]
WorkersOption = Annotated[str | None, typer.Option("--workers", metavar="N", help="Number of worker processes")]
JsonOption = Annotated[bool, typer.Option("--json", help="The same, for programs")]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="And then what comes, until Ctrl-C")]
SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="30s, 5m, 2h, 1d ago, or a time")]
OffsetOption = Annotated[int, typer.Option(metavar="N", min=0, help="Begin after so many")]
LimitOption = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="At most so many")]
LastOption = Annotated[int, typer.Option("--last", "-n", metavar="N", min=0, help="At most so many; 0: all")]
SlotArgument = Annotated[int, typer.Argument(metavar="SLOT", min=1, help="The number in worker-SLOT")]


def load(config: str | None, options: "dict[str, tuple[Key, str | None]]") -> "Loaded":
    """The settings, with those of the command line by their option. Raises ConfigError."""
    from wsd.supervisor.config import loading  # noqa: PLC0415
    from wsd.supervisor.config.layers import Setting  # noqa: PLC0415

    given: dict[Key, Setting] = {
        key: Setting(text, name, is_text=True) for name, (key, text) in options.items() if text is not None
    }
    loaded = loading.load(given, os.environ, config)
    for warning in loaded.warnings:
        say(f"wsd: warning: {warning}", err=True)
    return loaded


def find_state_dir(config: str | None, state_dir: str | None) -> "StateDir":
    from wsd.supervisor.state_dir import StateDir  # noqa: PLC0415

    found = StateDir(load(config, {"--state-dir": (("cluster", "state_dir"), state_dir)}).state_dir)
    found.check()
    return found


def ask(config: str | None, state_dir: str | None, method: str, target: str, body: object = None) -> Any:
    """What the cluster answers. Raises CommandError."""
    from wsd.supervisor.control.client import ControlClient  # noqa: PLC0415

    return json.loads(ControlClient(find_state_dir(config, state_dir), timeout=10).call(method, target, body))


def operate(config: str | None, state_dir: str | None, target: str, body: object, *, as_json: bool) -> None:
    """Begin an operation of the supervisor and show its progress to the end. Raises CommandError when it fails."""
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.control.client import ControlClient  # noqa: PLC0415
    from wsd.supervisor.deploys.operations import Progress  # noqa: PLC0415

    progress = Progress()
    try:
        for line in ControlClient(find_state_dir(config, state_dir)).follow(target, body):
            progress = msgspec.json.decode(line, type=Progress)
            if as_json:
                show_json_line(line)
            elif progress.text:
                say(progress.text)
    except KeyboardInterrupt:
        raise CommandError("it goes on without us; `wsd status` shows how far it is") from None
    if progress.error:
        if as_json:
            raise typer.Exit(ExitCode.FAILURE)
        raise CommandError(progress.error)
    if not progress.done:
        raise CommandError("the supervisor ended meanwhile")
