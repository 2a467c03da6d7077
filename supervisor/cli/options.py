"""The options that several commands share, and the settings that a command line gives.

In this folder, modules that only one command needs are imported inside that command: `wsd --help` must answer at once.
"""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from wsd.supervisor.machine.terminal import say

if TYPE_CHECKING:
    from wsd.supervisor.config.keys import Key
    from wsd.supervisor.config.loading import Loaded
    from wsd.supervisor.state_dir.directory import StateDir

# Options for settings stay text here. The configuration parses them, so that a wrong value gets the same error message
# wherever it was set.
ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="Settings file (default: ./wsd.toml)")
]
StateDirOption = Annotated[
    str | None,
    typer.Option("--state-dir", metavar="DIR", help="Sockets, logs and data (default: .wsd beside wsd.toml)"),
]
WorkersOption = Annotated[str | None, typer.Option("--workers", metavar="N", help="Number of worker processes")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Another cluster: http(s)://HOST:PORT (default: WSD_URL, or the local one)"
    ),
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help="Its API key (default: WSD_API_KEY, which `ps` does not show)"),
]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new lines until Ctrl-C")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help='Show lines since 30s, 5m, 2h or 1d ago, or "2026-01-31 12:00"')
]
OffsetOption = Annotated[int, typer.Option(metavar="N", min=0, help="Skip the first N")]
LimitOption = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Show at most N")]
LastOption = Annotated[
    int, typer.Option("--last", "-n", metavar="N", min=0, help="Show the last N lines (0: all of them)")
]
SlotArgument = Annotated[int, typer.Argument(metavar="SLOT", min=1, help="Slot number: 3 for worker-3")]
WhoArgument = Annotated[str, typer.Argument(metavar="SESSION|USER", help="Session id or user id")]


def load_settings(config: str | None, options: "dict[str, tuple[Key, str | None]]") -> "Loaded":
    """Load the settings.

    `options` gives the setting and the value of each option of the command line, None for an option that was not used.

    Raises ConfigError.
    """
    from wsd.supervisor.config import loading  # noqa: PLC0415
    from wsd.supervisor.config.layers import Setting  # noqa: PLC0415

    given: dict[Key, Setting] = {
        key: Setting(text, name, is_text=True) for name, (key, text) in options.items() if text is not None
    }
    loaded = loading.load(given, os.environ, config)
    for warning in loaded.warnings:
        say(f"wsd: warning: {warning}", err=True)
    return loaded


def load_with_state_dir(config: str | None, state_dir: str | None) -> "Loaded":
    """Load the settings for a command that has no other settings than `--state-dir`. Raises ConfigError."""
    return load_settings(config, {"--state-dir": (("cluster", "state_dir"), state_dir)})


def find_state_dir(config: str | None, state_dir: str | None) -> "StateDir":
    """Find the state directory that the options name. Raises CommandError when it cannot be used."""
    from wsd.supervisor.state_dir.directory import StateDir  # noqa: PLC0415

    found = StateDir(load_with_state_dir(config, state_dir).state_dir)
    found.check()
    return found
