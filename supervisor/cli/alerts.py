"""`wsd alerts test`: whether alerts arrive."""

from typing import Annotated, Literal

import typer

from wsd.supervisor.cli.options import ConfigOption, load_settings
from wsd.supervisor.errors import CommandError
from wsd.supervisor.machine.terminal import say


def alerts(
    action: Annotated[Literal["test"], typer.Argument(help="What to do")],
    config: ConfigOption = None,
) -> None:
    """Send a test alert, and say whether it arrived.

    It goes to alerts.command and alerts.url, whichever are set.

    No cluster needs to be running. The command runs as your user and in your environment, where a running cluster uses
    those of its supervisor.

    Exit code 1: it did not arrive.

    Example: wsd alerts test
    """
    import asyncio  # noqa: PLC0415
    import time  # noqa: PLC0415

    from wsd.supervisor.alerts.delivery import DeliveryError, post, run_command  # noqa: PLC0415
    from wsd.supervisor.alerts.ledger import Alert  # noqa: PLC0415

    loaded = load_settings(config, {})
    settings = loaded.config.alerts
    text = f"{action} alert: alerts of this node arrive"
    alert = Alert(event=action, problem=action, text=text, node_id=loaded.node_id, at=time.time())
    ways = []
    if settings.command:
        ways.append(("command", run_command(settings.command, alert, settings.timeout, set(), say)))
    if settings.url:
        ways.append(("url", post(settings.url, alert, settings.timeout)))
    if not ways:
        raise CommandError("nothing would send alerts: set alerts.command or alerts.url in wsd.toml")
    failures = []
    for name, delivery in ways:
        try:
            asyncio.run(delivery)
            say(f"alerts.{name}: the test alert was accepted")
        except DeliveryError as exc:
            failures.append(str(exc))
    if failures:
        raise CommandError("; ".join(failures))
