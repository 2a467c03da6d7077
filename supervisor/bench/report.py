"""What a person sees of `wsd bench`: how it goes, the figures, and a histogram."""

import msgspec
import uvloop
from rich.console import Group
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from wsd.supervisor.bench.figures import Bucket, Figures
from wsd.supervisor.bench.run import BenchRun, Progress, Settings
from wsd.supervisor.errors import ExitCode
from wsd.supervisor.machine.terminal import cell, console, show_json
from wsd.supervisor.state_dir import StateDir

BAR_WIDTH = 50
EIGHTHS = " ▏▎▍▌▋▊▉█"


def run(state_dir: StateDir, settings: Settings, *, as_json: bool) -> ExitCode:
    """Raises CommandError."""
    figures = _with_display(BenchRun(state_dir, settings))
    if as_json:
        show_json({**msgspec.to_builtins(figures), "passed": figures.passed})
    else:
        console().print(report(figures))
    return ExitCode.OK if figures.passed else ExitCode.FAILURE


def _with_display(bench: BenchRun) -> Figures:
    screen = console(stderr=True)
    if not screen.is_terminal:
        return uvloop.run(bench.run(lambda progress: None))
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.fields[delivered]:,} deliveries"))
    with Bars(*columns, console=screen, transient=True, refresh_per_second=4) as bars:
        known: dict[str, TaskID] = {}

        def show(progress: Progress) -> None:
            task = known.get(progress.phase)
            if task is None:
                task = known[progress.phase] = bars.add_task(progress.phase, total=progress.total, delivered=0)
            bars.update(task, completed=progress.done, delivered=progress.delivered)

        return uvloop.run(bench.run(show))


def report(figures: Figures) -> Group:
    return Group(_table(figures), "", *_histogram(figures.histogram), *_remarks(figures))


def _table(figures: Figures) -> Table:
    made = Table(show_header=False, box=None, pad_edge=False)
    late = figures.latency
    rows: list[tuple[str, str]] = [
        ("load", f"{figures.rate:g} messages/s of {figures.payload_bytes} bytes, {figures.channels} channels"),
        ("connected", f"{figures.connected:,} of {figures.connections:,}, {figures.connects_per_second:,.0f} a second"),
        ("handshake", f"p50 {figures.connect_p50_ms:.1f} ms, p99 {figures.connect_p99_ms:.1f} ms"),
        ("published", f"{figures.published:,} in {figures.seconds:.1f} s"),
        (
            "delivered",
            f"{figures.delivered:,} of {figures.expected:,}, {figures.deliveries_per_second:,.0f} a second",
        ),
    ]
    if late is not None:
        quantiles = f"p50 {late.p50:.1f} ms, p95 {late.p95:.1f} ms, p99 {late.p99:.1f} ms, most {late.most:.1f} ms"
        rows.append(("latency", quantiles))
    costs = [f"{name} {cost:.1f}" for name, cost in figures.cpu_us_per_delivery.items() if name != "load"]
    rows.append(("CPU us a delivery", ", ".join(costs) or "-"))
    rows.append(("errors", _errors(figures)))
    for name, value in rows:
        made.add_row(cell(name, "bold"), cell(value))
    return made


def _errors(figures: Figures) -> str:
    groups = {
        "failed handshakes": figures.failed_handshakes,
        "refused messages": figures.refused,
        "lost connections": figures.lost,
    }
    told = [f"{name}: {count} x {reason}" for name, found in groups.items() for reason, count in found.items()]
    if figures.delivered < figures.expected:
        told.append(f"{figures.expected - figures.delivered} deliveries did not come")
    return "; ".join(told) or "none"


def _histogram(buckets: list[Bucket]) -> list[Text]:
    most = max((bucket.count for bucket in buckets), default=0)
    return [Text(f"{_below(bucket):>10}  {bar(bucket.count / most)} {bucket.count:,}") for bucket in buckets]


def _below(bucket: Bucket) -> str:
    return f"< {bucket.below_ms:g} ms"


def bar(part: float) -> str:
    """A bar for a part of 1, as wide as BAR_WIDTH at most; what is not nothing is seen."""
    eighths = max(round(part * BAR_WIDTH * 8), 1 if part else 0)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def _remarks(figures: Figures) -> list[Text]:
    percent = f"the load itself used {figures.load_cpu_percent:.0f} % of a core"
    if figures.load_is_the_limit:
        return [Text(f"{percent}: it is the limit, not the cluster; latencies say little", style="yellow")]
    return [Text(percent, style="dim")]
