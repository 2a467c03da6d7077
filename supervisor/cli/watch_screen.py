"""The screen of `wsd status --watch`: its state, what each key does, and how it is drawn. Pure."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wsd.supervisor.cli.duration import duration
from wsd.supervisor.cli.sparkline import sparkline
from wsd.supervisor.cli.status_table import STATE_STYLES
from wsd.supervisor.control.status import ClusterStatus, ProcessStatus, WorkerStatus
from wsd.supervisor.machine.terminal import cell
from wsd.worker.contract.events import Event

SAMPLES = 120
"""How many samples are kept of each figure. One is taken every second."""

WIDE = 118
"""From this terminal width on, all columns of the processes are shown."""

VERY_WIDE = 150
"""From this terminal width on, all totals are on one line."""

KEYS = "up/down select   r restart   R restart all   d drain   u resume   + - scale   b rebalance   q quit"
SHORT_KEYS = "↑↓ select  r R restart  d drain  u resume  + - scale  b rebalance  q quit"

NODE = "node"
"""The key of the samples that are totals of this node."""

EVENT_STYLES = {"warning": "yellow", "error": "red", "critical": "bold red"}


@dataclass(frozen=True)
class Sample:
    """The figures of one worker, or of the whole node, at one moment. None: not known."""

    connections: float | None
    received: float | None  # messages a second
    sent: float | None
    cpu: float | None  # percent of a core
    lag: float | None  # seconds


@dataclass(frozen=True)
class OperationRequest:
    """A request for an operation, sent once the user has answered the question with yes."""

    target: str
    body: Mapping[str, object]
    question: str


@dataclass(frozen=True)
class Screen:
    """Everything that is shown."""

    status: ClusterStatus
    samples: Mapping[str, Sequence[Sample]]  # by name of the worker, and NODE
    events: Sequence[Event] = ()
    selected: int = 0  # index of the selected worker
    asking: OperationRequest | None = None  # waits for yes or no
    note: str = ""  # the latest message of the last action
    away: str = ""  # why the supervisor does not answer; empty while it does


def first_screen(status: ClusterStatus) -> Screen:
    """Return the first screen."""
    return updated(Screen(status, {}), status)


def updated(screen: Screen, status: ClusterStatus) -> Screen:
    """Return the screen with a new status, and with one more sample of each figure."""
    found = {worker.name: _sample([worker], [worker]) for worker in status.workers}
    found[NODE] = _sample(status.workers, _processes(status))
    samples = {name: [*screen.samples.get(name, ()), sample][-SAMPLES:] for name, sample in found.items()}
    selected = min(screen.selected, max(0, len(status.workers) - 1))
    return replace(screen, status=status, samples=samples, selected=selected, away="")


def _processes(status: ClusterStatus) -> list[ProcessStatus]:
    others = (status.nginx, status.valkey, status.relay)
    return [status.supervisor, *status.workers, *(process for process in others if process is not None)]


def _sample(workers: Sequence[WorkerStatus], processes: Sequence[ProcessStatus]) -> Sample:
    return Sample(
        _sum(worker.connections for worker in workers),
        _sum(worker.messages_in_per_second for worker in workers),
        _sum(worker.messages_out_per_second for worker in workers),
        _sum(process.cpu_percent for process in processes),
        max((worker.loop_lag_seconds for worker in workers if worker.loop_lag_seconds is not None), default=None),
    )


def _sum(values: Iterator[float | None] | Iterator[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# Keys


def press(screen: Screen, key: str) -> tuple[Screen, OperationRequest | None]:
    """Return the screen after a key was pressed, and the action that starts now, if any."""
    if screen.asking is not None:
        action = screen.asking if key in ("y", "Y") else None
        return replace(screen, asking=None, note="" if action else "cancelled"), action
    workers = screen.status.workers
    if key in ("up", "k"):
        return replace(screen, selected=max(0, screen.selected - 1)), None
    if key in ("down", "j"):
        return replace(screen, selected=min(len(workers) - 1, screen.selected + 1)), None
    asked = _action(key, screen.status, workers[screen.selected] if workers else None)
    return (replace(screen, asking=asked, note=""), None) if asked is not None else (screen, None)


def _action(key: str, status: ClusterStatus, worker: WorkerStatus | None) -> OperationRequest | None:
    count = len(status.workers)
    match key:
        case "R":
            return OperationRequest("/v1/restart", {}, "restart all workers?")
        case "+":
            return OperationRequest("/v1/scale", {"workers": count + 1}, f"scale from {count} to {count + 1} workers?")
        case "-" if count > 1:
            return OperationRequest("/v1/scale", {"workers": count - 1}, f"scale from {count} to {count - 1} workers?")
        case "b":
            return OperationRequest("/v1/rebalance", {}, "spread the connections evenly over the workers?")
        case "r" if worker is not None:
            return OperationRequest("/v1/restart", {"slots": [worker.slot]}, f"restart {worker.name}?")
        case "d" if worker is not None:
            return OperationRequest("/v1/drain", {"slot": worker.slot}, f"take {worker.name} out of service?")
        case "u" if worker is not None:
            return OperationRequest("/v1/resume", {"slot": worker.slot}, f"put {worker.name} back into service?")
    return None


# Drawing


def render(screen: Screen, width: int, height: int) -> RenderableType:
    """Draw the screen in at most `height` lines of at most `width` columns."""
    status = screen.status
    top = [_headline(screen), *_totals(screen, width)]
    top += [cell(f"! {text}", "yellow") for text in (*status.problems, *status.warnings)]
    processes = _processes(status)
    left = height - len(top) - 2 - 1  # the header of the table, an empty line, and the footer
    table = _table(screen, _around(processes, screen.selected + 1, max(1, left)), width)
    left -= min(len(processes), max(1, left))
    events = [_event(event) for event in list(screen.events)[-left:]] if left > 0 else []
    lines = [_fit(line, width) for line in top]
    padding = [Text() for _ in range(max(0, left - len(events)))]
    return Group(
        *lines, Text(), table, *(_fit(line, width) for line in events), *padding, _fit(_footer(screen, width), width)
    )


def _around(processes: list[ProcessStatus], selected: int, room: int) -> list[ProcessStatus]:
    """Return the `room` processes around the selected one."""
    start = max(0, min(selected - room // 2, len(processes) - room))
    return processes[start : start + room]


def _fit(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line


def _headline(screen: Screen) -> Text:
    status = screen.status
    state = ("AWAY", "bold red") if screen.away else (status.state.upper(), STATE_STYLES.get(status.state, ""))
    where = f"  {screen.away or f'node {status.node_id}, {status.url}'}"
    return Text.assemble(("wsd ", "bold"), state, cell(where), f", up {duration(status.supervisor.uptime_seconds)}")


@dataclass(frozen=True)
class _Figure:
    label: str
    value: str
    values: Sequence[float | None]


def _totals(screen: Screen, width: int) -> Iterator[Text]:
    """Yield the totals of this node over the last two minutes, and a line about all nodes if there are several."""
    samples = screen.samples[NODE]
    last = samples[-1]
    rates = f"{_whole(last.received)} in {_whole(last.sent)} out"
    figures = [
        _Figure("connections", _whole(last.connections), [sample.connections for sample in samples]),
        _Figure("messages/s", rates, [sample.sent for sample in samples]),
        _Figure("CPU %", _whole(last.cpu), [sample.cpu for sample in samples]),
        _Figure("lag", _milliseconds(last.lag), [sample.lag for sample in samples]),
    ]
    together = len(figures) if width >= VERY_WIDE else len(figures) // 2
    for start in range(0, len(figures), together):
        yield _figures(figures[start : start + together], width)
    nodes = screen.status.nodes
    if len(nodes) > 1:
        shown = (f"{node.node_id} {node.workers} workers {node.connections:,} connections" for node in nodes)
        yield cell("nodes  " + "   ".join(shown))


def _figures(figures: Sequence[_Figure], width: int) -> Text:
    """Put figures side by side, with sparklines in the remaining width."""
    taken = sum(len(figure.label) + len(figure.value) + 4 for figure in figures)
    space = max(4, min(40, (width - taken) // len(figures)))
    line = Text()
    for figure in figures:
        line.append(f"{figure.label} ", "dim")
        line.append(f"{figure.value} ", "bold")
        line.append(sparkline(figure.values, space), "cyan")
        line.append("  ")
    return line


def _table(screen: Screen, processes: Sequence[ProcessStatus], width: int) -> Table:
    wide = width >= WIDE
    space = (width - 98) // 2 if wide else max(4, (width - 59) // 2)
    table = Table(box=None, pad_edge=False, header_style="dim", width=width, padding=(0, 1, 0, 0))
    for name in ("NAME", "STATE"):
        table.add_column(name, no_wrap=True)
    if wide:
        for name in ("PID", "UP", "RESTARTS", "RSS"):
            table.add_column(name, justify="right", no_wrap=True)
    for name in ("CONNS", "", "OUT/S", "", "CPU %", "LAG"):
        table.add_column(name, justify="right", no_wrap=True)
    selected = screen.status.workers[screen.selected].name if screen.status.workers else ""
    for process in processes:
        table.add_row(
            *_cells(process, screen.samples.get(process.name, ()), space, wide=wide),
            style="reverse" if process.name == selected else "",
        )
    return table


def _cells(process: ProcessStatus, samples: Sequence[Sample], space: int, *, wide: bool) -> Iterator[str | Text]:
    yield cell(process.name)
    yield Text(process.state.upper(), style=STATE_STYLES.get(process.state, ""))
    if wide:
        yield str(process.pid or "-")
        yield duration(process.uptime_seconds)
        yield str(process.restarts)
        yield "-" if process.rss_bytes is None else f"{process.rss_bytes / 1e6:.0f} MB"
    worker = process if isinstance(process, WorkerStatus) else None
    yield _whole(worker.connections) if worker else ""
    yield Text(sparkline([sample.connections for sample in samples], space), "cyan")
    yield _whole(worker.messages_out_per_second) if worker else ""
    yield Text(sparkline([sample.sent for sample in samples], space), "cyan")
    yield "-" if process.cpu_percent is None else f"{process.cpu_percent:.1f}"
    lag = worker.loop_lag_seconds if worker else None
    yield _milliseconds(lag) if worker else ""


def _event(event: Event) -> Text:
    when = time.strftime("%H:%M:%S", time.localtime(event.at))
    return cell(f"{when}  {event.source:<10} {event.text}", EVENT_STYLES.get(event.level, ""))


def _footer(screen: Screen, width: int) -> Text:
    if screen.asking is not None:
        return cell(f"{screen.asking.question} y/n", "bold reverse")
    if message := screen.note or screen.status.operation:
        return cell(message, "bold")
    return Text(KEYS if width > len(KEYS) else SHORT_KEYS, style="dim")


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
