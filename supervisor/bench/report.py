"""The output of `wsd bench`: a progress bar, a table of figures and a histogram of latencies."""

import msgspec
import uvloop
from rich.console import Group
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from wsd.supervisor.bench.figures import Bucket, Figures
from wsd.supervisor.bench.run import BenchProgress, BenchRun, BenchSettings
from wsd.supervisor.counts import count
from wsd.supervisor.errors import ExitCode
from wsd.supervisor.machine.terminal import cell, console, show_json
from wsd.supervisor.state_dir.directory import StateDir

BAR_WIDTH = 50
EIGHTHS = " ▏▎▍▌▋▊▉█"


def run_and_report(state_dir: StateDir, settings: BenchSettings, *, as_json: bool) -> ExitCode:
    """Run the benchmark, print its result and return the exit code. Raises CommandError."""
    figures = _run_with_progress(BenchRun(state_dir, settings))
    if as_json:
        show_json({**msgspec.to_builtins(figures), "passed": figures.passed})
    else:
        console().print(result(figures))
    return ExitCode.OK if figures.passed else ExitCode.FAILURE


def _run_with_progress(bench: BenchRun) -> Figures:
    screen = console(stderr=True)
    if not screen.is_terminal:
        return uvloop.run(bench.run(lambda progress: None))
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.fields[delivered]:,} deliveries"))
    with Bars(*columns, console=screen, transient=True, refresh_per_second=4) as bars:
        known: dict[str, TaskID] = {}

        def show(progress: BenchProgress) -> None:
            task = known.get(progress.phase)
            if task is None:
                task = known[progress.phase] = bars.add_task(progress.phase, total=progress.total, delivered=0)
            bars.update(task, completed=progress.done, delivered=progress.delivered)

        return uvloop.run(bench.run(show))


def result(figures: Figures) -> Group:
    return Group(_table(figures), "", *_histogram(figures.histogram), *_remarks(figures))


def _table(figures: Figures) -> Table:
    made = Table(show_header=False, box=None, pad_edge=False)
    late = figures.latency
    rows: list[tuple[str, str]] = [
        (
            "load",
            f"{figures.rate:g} messages/s of {figures.payload_bytes} bytes in {count(figures.channels, 'channel')}",
        ),
        (
            "connected",
            f"{figures.connected:,} of {figures.connections:,}, {figures.connects_per_second:,.0f} per second",
        ),
        ("handshake", f"p50 {figures.connect_p50_ms:.1f} ms, p99 {figures.connect_p99_ms:.1f} ms"),
        ("published", f"{figures.published:,} in {figures.seconds:.1f} s"),
        (
            "delivered",
            f"{figures.delivered:,} of {figures.expected:,}, {figures.deliveries_per_second:,.0f} per second",
        ),
    ]
    if late is not None:
        quantiles = f"p50 {late.p50:.1f} ms, p95 {late.p95:.1f} ms, p99 {late.p99:.1f} ms, max {late.most:.1f} ms"
        rows.append(("latency", quantiles))
    costs = [f"{name} {cost:.1f} us" for name, cost in figures.cpu_us_per_delivery.items() if name != "load"]
    rows.append(("CPU per delivery", ", ".join(costs) or "-"))
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
    errors = [f"{name}: {count} x {reason}" for name, found in groups.items() for reason, count in found.items()]
    if figures.delivered < figures.expected:
        errors.append(f"missing deliveries: {figures.expected - figures.delivered}")
    return "; ".join(errors) or "none"


def _histogram(buckets: list[Bucket]) -> list[Text]:
    most = max((bucket.count for bucket in buckets), default=0)
    return [Text(f"{_below(bucket):>10}  {bar(bucket.count / most)} {bucket.count:,}") for bucket in buckets]


def _below(bucket: Bucket) -> str:
    return f"< {bucket.below_ms:g} ms"


def bar(share: float) -> str:
    """Draw a bar for a share from 0 to 1, BAR_WIDTH characters wide for 1. A share above 0 is always visible."""
    eighths = max(round(share * BAR_WIDTH * 8), 1 if share else 0)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def _remarks(figures: Figures) -> list[Text]:
    text = f"the load generator used {figures.load_cpu_percent:.0f} % of a core"
    if figures.load_is_the_limit:
        text += ": it is the bottleneck, not the cluster, and the latencies are mostly its own"
        return [Text(text, style="yellow")]
    return [Text(text, style="dim")]
