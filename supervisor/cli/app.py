"""The `wsd` command: the table of its subcommands, and how it ends when one of them fails.

Every module of this folder that is imported here must be quick to import, because `wsd --help` must answer at once.
"""

import contextlib
import errno
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from wsd.supervisor.cli import (
    alerts,
    archive,
    bench,
    chaos,
    completion,
    config,
    dev,
    doctor,
    logs,
    messages,
    operations,
    sessions,
    start,
    status,
    token,
)
from wsd.supervisor.errors import CommandError, ConfigError, ExitCode
from wsd.supervisor.machine.standard_streams import (
    encode_everything,
    finish_standard_streams,
    open_standard_streams,
    reader_is_gone,
)
from wsd.supervisor.machine.terminal import say, show_traceback

COMMANDS = (
    start.start,
    dev.dev,
    status.status,
    start.stop,
    operations.restart,
    operations.scale,
    operations.rebalance,
    operations.reload,
    operations.drain,
    operations.resume,
    operations.upgrade,
    sessions.sessions,
    sessions.channels,
    sessions.trace,
    sessions.kick,
    messages.publish,
    messages.history,
    messages.presence,
    messages.tail,
    archive.archive,
    token.token,
    logs.events,
    logs.logs,
    doctor.doctor,
    alerts.alerts,
    bench.bench,
    chaos.chaos,
    config.init,
    config.render_nginx,
    config.config,
    completion.completion,
)
"""The subcommands, in the order in which `wsd --help` lists them."""

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Errors of writing to the file or device that standard output was redirected to."""


def _with_output_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command end quietly when its reader is gone, and with one line when its output cannot be written."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except OSError as exc:
            if reader_is_gone():
                raise typer.Exit(ExitCode.READER_GONE) from None
            if exc.filename is None and exc.errno in UNWRITABLE:
                raise CommandError(f"cannot write the output: {exc.strerror}") from None
            raise

    return run


def _help(command: Callable[..., None]) -> str:
    """Return the docstring of a command, with each example on a line of its own.

    click joins the lines of a paragraph, unless the paragraph begins with a backspace character.
    """
    text, *examples = inspect.cleandoc(command.__doc__ or "").split("\nExample: ")
    return "\n".join([text.rstrip(), "", "\b", *(f"Example: {example}" for example in examples)])


app = typer.Typer(
    name="wsd",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Run 'wsd COMMAND --help' for more about a command.",
)

for command in COMMANDS:
    app.command(help=_help(command))(_with_output_errors(command))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415

        say(f"wsd {version('wsd-cluster')}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit")
    ] = False,
) -> None:
    """A WebSocket cluster in one command."""
    if sys.platform == "win32":
        here = "wsd.client, wsd.Publisher and wsd.testing"
        raise ConfigError(f"the command wsd does not run on Windows, only {here} do: use it in WSL")


def main() -> None:
    """Run the command line. An error is reported as one line of text and an exit code."""
    open_standard_streams()
    encode_everything()
    command = typer.main.get_command(app)
    sys.excepthook = show_traceback
    try:
        code = command.main(prog_name="wsd", standalone_mode=False)
    except CommandError as exc:
        _fail(str(exc), exc.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.FAILURE
    except Exception as exc:
        # Only click's errors, such as an unknown option or a missing value, have this method.
        if not hasattr(exc, "format_message"):
            raise
        _fail(f"{exc.format_message()} (see: wsd --help)", ExitCode.USAGE)
    finish_standard_streams()
    sys.exit(code)


def _fail(message: str, code: ExitCode) -> None:
    with contextlib.suppress(OSError):
        say(f"wsd: {' '.join(message.split())}", err=True)
    finish_standard_streams()
    sys.exit(code)
