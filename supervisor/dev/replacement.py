"""The decisions of `wsd dev`: which process serves, which one is to replace it, and when. Pure.

A process STARTS (it imports the application), is LOADED, and SERVES. When the code changes, another process starts.
Once that one is loaded, the one that serves releases its clients and its state to it, and ends. A process that fails
before it is loaded changes nothing.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Situation:
    """The processes, by their numbers."""

    newest: int = 0  # the number of the process that was started last
    serving: int | None = None
    following: int | None = None  # it is to serve next
    is_loaded: bool = False  # the following one
    is_releasing: bool = False  # the serving one, to the following one
    has_changed: bool = False  # the code, since the release began


@dataclass(frozen=True)
class Changed:
    """The code has changed, or is there for the first time."""


@dataclass(frozen=True)
class Loaded:
    """A process has imported the application."""

    process: int


@dataclass(frozen=True)
class Released:
    """A process has released its clients."""

    process: int


@dataclass(frozen=True)
class Ended:
    """A process has ended, or has said why it cannot serve."""

    process: int
    can_be_repeated: bool = False  # it served for a while, so that another one may serve for as long


Fact = Changed | Loaded | Released | Ended


@dataclass(frozen=True)
class Start:
    process: int


@dataclass(frozen=True)
class Kill:
    process: int


@dataclass(frozen=True)
class Release:
    process: int


@dataclass(frozen=True)
class Serve:
    process: int


Effect = Start | Kill | Release | Serve


def step(now: Situation, fact: Fact) -> tuple[Situation, list[Effect]]:
    """Return the situation after a fact, and what is to be done."""
    match fact:
        case Changed() if now.is_releasing:
            return replace(now, has_changed=True), []
        case Changed():
            outdated: list[Effect] = [Kill(now.following)] if now.following is not None else []
            after, effects = _started(now)
            return after, outdated + effects
        case Loaded(process) if process == now.following:
            if now.serving is None:
                return _handed_over(now)
            return replace(now, is_loaded=True, is_releasing=True), [Release(now.serving)]
        case Ended(process) if process == now.following:
            return replace(now, following=None, is_loaded=False), []
        case Released(process) | Ended(process) if process == now.serving and now.is_releasing:
            return _handed_over(now)
        case Ended(process, can_be_repeated) if process == now.serving:
            after = replace(now, serving=None)
            return _started(after) if can_be_repeated and after.following is None else (after, [])
    return now, []


def _started(now: Situation) -> tuple[Situation, list[Effect]]:
    number = now.newest + 1
    return replace(now, newest=number, following=number, is_loaded=False), [Start(number)]


def _handed_over(now: Situation) -> tuple[Situation, list[Effect]]:
    """Let the following process serve. If it has ended meanwhile, or the code has changed, start another one."""
    after = replace(now, serving=now.following, following=None, is_loaded=False, is_releasing=False, has_changed=False)
    effects: list[Effect] = [Serve(after.serving)] if after.serving is not None else []
    if now.has_changed or after.serving is None:
        after, more = _started(after)
        effects += more
    return after, effects
