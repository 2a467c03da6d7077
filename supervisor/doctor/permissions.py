"""What `wsd doctor` says about the clients of the hub: what they may do. docs/security.md explains the rules. Pure."""

from collections.abc import Iterator

from wsd.supervisor.config.settings import ChannelConfig, Config
from wsd.supervisor.doctor.exposure import authenticates, is_public
from wsd.supervisor.monitoring.finding import Finding, ok, warning
from wsd.worker.contract.channel_rules import USER_ID, Allowed, ChannelPattern

CHECK = "clients"

BROADCAST, DIRECT = "broadcast", "direct"
"""The channels whose rules hold for broadcasts and for direct messages. No client can name them."""

REMEDY = 'set allow_publish = "server" in [channels."*"], other rules of channels, or security.authorize'

MAX_NAMED = 3
"""How many patterns of channels a finding names."""


def permissions(config: Config) -> Iterator[Finding]:
    """Say what every client may do. Nothing is said of an application, which has rules of its own."""
    if config.cluster.app:
        return
    security = config.security
    rules = {text: rule for text, rule in config.channels.items() if text not in (BROADCAST, DIRECT)}
    channels = [
        ("subscribe to", _channels(config, {text: rule.allow_subscribe for text, rule in rules.items()})),
        ("publish in", _channels(config, {text: rule.allow_publish for text, rule in rules.items()})),
    ]
    broadcasts = security.client_broadcasts and _may(config, _rule(config, BROADCAST).allow_publish)
    directs = security.client_directs and _may(config, _rule(config, DIRECT).allow_publish)
    deeds = [f"{verb} {which}" for verb, which in channels if which]
    deeds += ["send broadcasts"] if broadcasts else []
    deeds += ["send direct messages to every user"] if directs else []
    who = "every user" if authenticates(config) else "everybody who can connect, under any name,"
    found = f"{who} may {_listed(deeds)}" if deeds else "no client may subscribe or send messages by itself"
    if security.authorize and deeds:
        found += ", where security.authorize allows it"
    speaks_everywhere = _may(config, config.channels["*"].allow_publish) or broadcasts
    if is_public(config) and speaks_everywhere and not security.authorize:
        yield warning(CHECK, found, f"{REMEDY}, unless that is intended")
    else:
        yield ok(CHECK, found)


def _may(config: Config, allowed: Allowed) -> bool:
    """Return whether every client may do something without a token."""
    return allowed == "anyone" or (allowed == "authenticated" and authenticates(config))


def _rule(config: Config, channel: str) -> ChannelConfig:
    """Return the settings of the pattern that applies to a channel."""
    patterns = [ChannelPattern(text) for text in config.channels]
    matching = [pattern for pattern in patterns if pattern.matches(channel)]
    return config.channels[max(matching, key=lambda pattern: pattern.precision).text]


def _channels(config: Config, allowed: dict[str, Allowed]) -> str:
    """Say in which channels every client may do something, "" for none. `allowed`: by pattern."""
    is_of_one_user = {text: USER_ID in text and authenticates(config) for text in allowed}
    open_to_all = [text for text, value in allowed.items() if _may(config, value) and not is_of_one_user[text]]
    if "*" not in open_to_all:
        return _named(open_to_all)
    others = [text for text in allowed if text not in open_to_all]
    return "every channel" + (f" except {_named(others)}" if others else "")


def _named(patterns: list[str]) -> str:
    more = len(patterns) - MAX_NAMED
    return _listed(patterns[:MAX_NAMED] + ([f"{more} more"] if more > 0 else []))


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
