"""`wsd publish`, `wsd history`, `wsd presence` and `wsd tail`: the messages and members of channels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wsd.supervisor.cli.options import ApiKeyOption, ConfigOption, JsonOption, StateDirOption, UrlOption

if TYPE_CHECKING:
    from wsd.publisher import OutgoingMessage
    from wsd.supervisor.errors import ConfigError

ChannelArgument = Annotated[
    str, typer.Argument(metavar="CHANNEL", help='A channel; "broadcast" is that of all clients')
]


def publish(
    channel: ChannelArgument,
    data: Annotated[str, typer.Argument(metavar="DATA|-", help="A message; with - each line of standard input is one")],
    as_text: Annotated[bool, typer.Option("--text", help="Publish a text, also if it looks like JSON")] = False,
    key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="Publish once within two minutes for the same key"),
    ] = None,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish messages in a channel.

    DATA that is JSON is published as JSON, and anything else as a text. Empty lines of standard input are left out.
    What gets no answer is sent again for 30 s, and is published once where the channel has a history. Prints the
    position of each message.

    The local cluster needs no key. For another one, set WSD_URL and WSD_API_KEY.

    Exit code 1: a message was not published. 2: the message, the channel or the key is wrong.

    Example: wsd publish news '{"headline": "hi"}'
    Example: tail -f app.log | wsd publish logs - --text
    """
    from wsd.publisher import PublishError  # noqa: PLC0415
    from wsd.supervisor.cli.channel_input import standard_input  # noqa: PLC0415
    from wsd.supervisor.cli.channel_output import show_results  # noqa: PLC0415
    from wsd.supervisor.cli.publishers import mapped_errors, publisher  # noqa: PLC0415
    from wsd.supervisor.errors import ConfigError  # noqa: PLC0415

    if data == "-" and key:
        raise ConfigError("--idempotency-key is for one message, not for the lines of standard input")
    with mapped_errors(), publisher(url, api_key, config, state_dir) as cluster:
        for batch in standard_input() if data == "-" else [[("DATA", data)]]:
            messages, problem = _outgoing(channel, batch, key, is_text=as_text)
            try:
                show_results(cluster.publish_many(messages), as_json=as_json)
            except PublishError as exc:
                show_results(exc.results, as_json=as_json)
                raise
            if problem is not None:
                raise problem


def history(
    channel: ChannelArgument,
    since: Annotated[
        int | None, typer.Option(metavar="OFFSET", min=0, help="Show messages after it, or before it with --reverse")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Show at most N")] = 50,
    reverse: Annotated[bool, typer.Option("--reverse", help="Show the newest message first")] = False,
    epoch: Annotated[
        str, typer.Option("--epoch", metavar="EPOCH", help="Show messages of an earlier epoch of an archived channel")
    ] = "",
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the messages that a channel keeps.

    Without --since, shows the newest ones, and of an archived channel also those
    that Redis no longer has. Each line has the offset, the user who sent the message, and the data.

    Example: wsd history news --limit 10
    Example: wsd history news --since 1200
    """
    from wsd.supervisor.cli.channel_output import show_history  # noqa: PLC0415
    from wsd.supervisor.cli.publishers import mapped_errors, publisher  # noqa: PLC0415

    with mapped_errors(), publisher(url, api_key, config, state_dir) as cluster:
        found = cluster.history(channel, since=since or 0, limit=limit, reverse=reverse or since is None, epoch=epoch)
    show_history(found, is_turned=since is None and not reverse, as_json=as_json)


def presence(
    channel: ChannelArgument,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="List at most N")] = 50,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who is in a channel, on all nodes.

    Example: wsd presence room:1
    """
    from dataclasses import asdict  # noqa: PLC0415

    from wsd.supervisor.cli.channel_output import show_presence  # noqa: PLC0415
    from wsd.supervisor.cli.publishers import mapped_errors, publisher  # noqa: PLC0415
    from wsd.supervisor.machine.terminal import show_json  # noqa: PLC0415

    with mapped_errors(), publisher(url, api_key, config, state_dir) as cluster:
        found = cluster.presence(channel, limit=limit)
    if as_json:
        show_json(asdict(found))
    else:
        show_presence(found)


def tail(
    channel: ChannelArgument,
    last: Annotated[
        int, typer.Option("--last", "-n", metavar="N", min=0, max=500, help="Begin with the last N messages")
    ] = 10,
    url: UrlOption = None,
    api_key: ApiKeyOption = None,
    config: ConfigOption = None,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Follow the messages of a channel until Ctrl-C.

    Shows each message once, in order, also across restarts of workers and of Redis. It reads the history of the
    channel, so nobody sees it as a member, and channels that keep no history show nothing.

    Example: wsd tail room:1 --last 20
    """
    from contextlib import suppress  # noqa: PLC0415

    from wsd.supervisor.cli.channel_follower import follow  # noqa: PLC0415
    from wsd.supervisor.cli.channel_output import show_messages  # noqa: PLC0415
    from wsd.supervisor.cli.publishers import mapped_errors, publisher  # noqa: PLC0415
    from wsd.supervisor.errors import ExitCode  # noqa: PLC0415
    from wsd.supervisor.machine.standard_streams import reader_is_gone  # noqa: PLC0415

    with (
        suppress(KeyboardInterrupt),
        mapped_errors(),
        publisher(url, api_key, config, state_dir, retry_for=0) as cluster,
    ):
        for messages in follow(cluster, channel, last):
            if reader_is_gone():
                raise typer.Exit(ExitCode.READER_GONE)  # also while no message comes that could not be written
            show_messages(messages, as_json=as_json)


def _outgoing(
    channel: str, batch: Sequence[tuple[str, str | bytes]], key: str | None, *, is_text: bool
) -> "tuple[list[OutgoingMessage], ConfigError | None]":
    """Return the messages in a batch of named texts, and the error of the first one that cannot be published."""
    from wsd.publisher import calls  # noqa: PLC0415
    from wsd.supervisor.cli.channel_input import message_data  # noqa: PLC0415
    from wsd.supervisor.errors import ConfigError  # noqa: PLC0415

    target = {"broadcast": True} if channel == "broadcast" else {"channel": channel}
    messages: list[OutgoingMessage] = []
    for name, text in batch:
        try:
            messages.append(calls.message(message_data(text, name, is_text=is_text), key or "", "", **target))
        except ConfigError as exc:
            return messages, exc
    return messages, None
