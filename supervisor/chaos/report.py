"""The output of `wsd chaos`: its progress and the verdict."""

import asyncio

import msgspec
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsd.supervisor.chaos.run import ChaosProgress, ChaosRun, ChaosSettings
from wsd.supervisor.chaos.verdict import ChaosVerdict
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.errors import ExitCode
from wsd.supervisor.machine.terminal import cell, console, show_json
from wsd.supervisor.state_dir.directory import StateDir


def run_and_report(loaded: Loaded, settings: ChaosSettings, *, as_json: bool) -> ExitCode:
    """Run the faults, print the verdict and return the exit code. Raises CommandError."""
    chaos = ChaosRun(StateDir(loaded.state_dir), loaded.config.redis, settings)
    verdict = asyncio.run(_run_with_progress(chaos, settings))
    if as_json:
        show_json(msgspec.to_builtins(verdict))
    else:
        console().print(table(verdict))
    return ExitCode.OK if verdict.passed else ExitCode.FAILURE


async def _run_with_progress(chaos: ChaosRun, settings: ChaosSettings) -> ChaosVerdict:
    screen = console(stderr=True)
    if not screen.is_terminal:
        return await chaos.run(lambda progress: None)
    with Live(console=screen, transient=True, refresh_per_second=4) as live:
        return await chaos.run(lambda progress: live.update(_progress(progress, settings)))


def _progress(progress: ChaosProgress, settings: ChaosSettings) -> Group:
    line = (
        f"{min(progress.seconds, settings.duration):5.1f} of {settings.duration:g} s"
        f"   {progress.published} published   {progress.missing} in transit"
        f"   {progress.reconnects} reconnects   {progress.told} gaps reported"
    )
    return Group(Text(line, style="bold"), *map(cell, progress.events))


def table(verdict: ChaosVerdict) -> Table:
    made = Table(title="passed" if verdict.passed else "FAILED", show_header=False, title_justify="left")
    made.title_style = "bold green" if verdict.passed else "bold red"
    rows: list[tuple[str, object]] = [
        ("seed, duration", f"{verdict.seed}, {verdict.duration:g} s"),
        ("faults", ", ".join(f"{count} {name}" for name, count in verdict.faults.items()) or "none"),
        ("messages published, acked", f"{verdict.published}, {verdict.acked}"),
        ("deliveries expected, received", f"{verdict.expected}, {verdict.delivered}"),
        ("acked, but not delivered", verdict.lost),
        ("duplicated", verdict.duplicated),
        ("out of order", verdict.out_of_order),
        ("missed without notice", verdict.holes),
        ("gaps reported", verdict.told),
        ("reconnects, sessions resumed", f"{verdict.reconnects}, {verdict.resumed}"),
        ("reconnect time, p50, p99", f"{verdict.recovery_p50:.2f} s, {verdict.recovery_p99:.2f} s"),
        (
            "publish to ack, p50, p99, longest",
            f"{verdict.ack_p50 * 1000:.1f} ms, {verdict.ack_p99 * 1000:.1f} ms, {verdict.ack_max:.1f} s",
        ),
        *(("lost", text) for text in verdict.lost_messages),
        *(("fault not injected", text) for text in verdict.failed_faults),
        *(("inconsistent afterwards", text) for text in verdict.discrepancies),
    ]
    for name, value in rows:
        made.add_row(name, cell(value))
    return made
