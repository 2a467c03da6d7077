"""Requests of commands to the supervisor of a running cluster, and the progress of its operations."""

import json
from typing import Any

import typer

from wsd.supervisor.cli.options import find_state_dir
from wsd.supervisor.errors import CommandError, ExitCode
from wsd.supervisor.machine.terminal import say, show_json_line

ANSWER_SECONDS = 10


def ask(config: str | None, state_dir: str | None, method: str, target: str, body: object = None) -> Any:
    """Send a request to the supervisor and return its decoded answer. Raises CommandError."""
    from wsd.supervisor.control.client import ControlClient  # noqa: PLC0415

    client = ControlClient(find_state_dir(config, state_dir), timeout=ANSWER_SECONDS)
    return json.loads(client.call(method, target, body))


def operate(config: str | None, state_dir: str | None, target: str, body: object, *, as_json: bool) -> None:
    """Start an operation of the supervisor and show its progress until it has ended.

    Raises CommandError when the operation fails.
    """
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
        raise CommandError("the operation continues in the background; `wsd status` shows its progress") from None
    if progress.error:
        if as_json:
            raise typer.Exit(ExitCode.FAILURE)
        raise CommandError(progress.error)
    if not progress.done:
        raise CommandError("the supervisor ended during the operation")
