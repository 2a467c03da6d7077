"""Define the errors that end a `wsd` command, each reported as one line of text with an exit code."""

from enum import IntEnum

from wsd.worker.contract.errors import WsdError


class ExitCode(IntEnum):
    """The exit codes of `wsd`."""

    OK = 0
    FAILURE = 1  # a command failed; for `wsd status`: the cluster runs, but is degraded
    USAGE = 2  # the command line or the configuration is wrong
    NOT_RUNNING = 3
    READER_GONE = 141  # what shells report for a program that SIGPIPE ended


class CommandError(WsdError):
    """A command or an operation could not be carried out.

    The message is for the person at the keyboard: it names the thing, its value and the way out.
    """

    exit_code = ExitCode.FAILURE


class ConfigError(CommandError):
    """A setting is wrong, or a file that the settings name cannot be used."""

    exit_code = ExitCode.USAGE


class NotRunningError(CommandError):
    """No supervisor runs in the state directory."""

    exit_code = ExitCode.NOT_RUNNING


class StartError(CommandError):
    """The cluster, or a part that it cannot do without, did not start."""
