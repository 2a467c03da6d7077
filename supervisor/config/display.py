"""Show a configuration as TOML, and the changes from one configuration to another."""

from collections.abc import Iterator
from typing import Any

from wsd.supervisor.config.keys import SECRET_KEYS, SECTIONS, Key, channels_section
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import ChannelConfig, Config, Section
from wsd.supervisor.config.wording import show


def describe(loaded: Loaded) -> Iterator[str]:
    """Yield the lines of the configuration as TOML, each value with its source in a comment."""
    sections: dict[str, Section] = {section: getattr(loaded.config, section) for section in SECTIONS}
    sections |= {channels_section(pattern): chosen for pattern, chosen in loaded.config.channels.items()}
    for section, values in sections.items():
        yield f"[{section}]"
        for key in values.__struct_fields__:
            source = loaded.sources.get((section, key), "default")
            value = getattr(values, key)
            if (section, key) in SECRET_KEYS and value:
                value = "***"
            yield f"{key} = {_toml(value)}  # {source}"
        yield ""


def changes(before: Config, after: Config) -> Iterator[tuple[Key, str]]:
    """Yield the settings whose values differ, each with a text like `cluster.port: 8000 -> 8080`."""
    patterns = {channels_section(pattern): pattern for pattern in (*before.channels, *after.channels)}
    for section in (*SECTIONS, *patterns):
        old, new = (
            config.channels.get(patterns[section], ChannelConfig()) if section in patterns else getattr(config, section)
            for config in (before, after)
        )
        for key in new.__struct_fields__:
            if (was := getattr(old, key)) != (now := getattr(new, key)):
                shown = ("***", "***") if (section, key) in SECRET_KEYS else (_toml(was), _toml(now))
                yield (section, key), f"{section}.{key}: {shown[0]} -> {shown[1]}"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(show(item) for item in value)}]"
    return show(value)
