"""`wsd doctor`."""

import typer

from wsd.supervisor.cli.options import ConfigOption, JsonOption, StateDirOption, load_with_state_dir
from wsd.supervisor.errors import ExitCode
from wsd.supervisor.machine.terminal import show_json


def doctor(config: ConfigOption = None, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Check the machine, the settings, Redis and the cluster.

    Each finding says what to do about it.

    Exit code 1: at least one check failed. Warnings do not count.

    Example: REDIS_URL=redis://cache.internal wsd doctor
    """
    import msgspec  # noqa: PLC0415

    from wsd.supervisor.cli.finding_lines import print_finding  # noqa: PLC0415
    from wsd.supervisor.doctor.checks import examine  # noqa: PLC0415
    from wsd.supervisor.monitoring.finding import Grade  # noqa: PLC0415

    found = []
    for finding in examine(load_with_state_dir(config, state_dir)):
        found.append(finding)
        if not as_json:
            print_finding(finding)
    if as_json:
        show_json(msgspec.to_builtins(found))
    raise typer.Exit(ExitCode.FAILURE if any(each.grade is Grade.FAILURE for each in found) else ExitCode.OK)
