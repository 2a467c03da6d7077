"""Show a configuration as TOML, and the changes from one configuration to another."""

from collections.abc import Iterator
from typing import Any

from wsd.supervisor.config.keys import SECTIONS, Key, api_key_of, api_key_section, channels_section, is_secret
from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.config.settings import ApiKeyConfig, ChannelConfig, Config, Section
from wsd.supervisor.config.wording import show


def describe(loaded: Loaded) -> Iterator[str]:
    """Yield the lines of the configuration as TOML, each value with its source in a comment."""
    for section, values in _by_section(loaded.config).items():
        yield f"[{section}]"
        for key in values.__struct_fields__:
            source = loaded.sources.get((section, key), "default")
            value = getattr(values, key)
            if is_secret((section, key)) and value:
                value = "***"
            yield f"{key} = {_toml(value)}  # {source}"
        yield ""


def changes(before: Config, after: Config) -> Iterator[tuple[Key, str]]:
    """Yield the settings whose values differ, each with a text like `cluster.port: 8000 -> 8080`."""
    olds, news = _by_section(before), _by_section(after)
    for section in dict.fromkeys([*olds, *news]):
        default = ApiKeyConfig() if api_key_of(section) is not None else ChannelConfig()
        old, new = olds.get(section, default), news.get(section, default)
        for key in new.__struct_fields__:
            if (was := getattr(old, key)) != (now := getattr(new, key)):
                shown = ("***", "***") if is_secret((section, key)) else (_toml(was), _toml(now))
                yield (section, key), f"{section}.{key}: {shown[0]} -> {shown[1]}"


def _by_section(config: Config) -> dict[str, Section]:
    """Return all sections of a configuration by their names, those of channel patterns and API keys among them."""
    sections: dict[str, Section] = {section: getattr(config, section) for section in SECTIONS}
    sections |= {channels_section(pattern): chosen for pattern, chosen in config.channels.items()}
    return sections | {api_key_section(name): chosen for name, chosen in config.api_keys.items()}


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(show(item) for item in value)}]"
    return show(value)
