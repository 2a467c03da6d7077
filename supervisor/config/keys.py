"""List the settings by section and key, with those that hold a path or a secret, and those that were removed."""

from collections.abc import Iterator

import msgspec

from wsd.supervisor.config.settings import ApiKeyConfig, ChannelConfig, Config, Section

Key = tuple[str, str]
"""A section and a name in it.

The section of a channel pattern is `channels."room:*"`, and that of an API key is `api_keys.NAME`.
"""

CHANNELS = "channels"
API_KEYS = "api_keys"
SECTIONS: dict[str, type[Section]] = {
    field.name: field.type for field in msgspec.structs.fields(Config) if field.name not in (CHANNELS, API_KEYS)
}
"""All sections but those of channel patterns and API keys."""

RULE_PREFIX = "allow_"
"""The beginning of the settings of a channel pattern that say who may do what."""

PATH_KEYS = {
    ("cluster", "state_dir"),
    ("nginx", "tls_certificate"),
    ("nginx", "tls_key"),
    ("nginx", "acme_webroot"),
    ("nginx", "include"),
    ("security", "jwt_public_key_file"),
    ("security", "jwt_jwks_file"),
}
"""Settings that hold a path. In wsd.toml a relative path starts from the file's directory, elsewhere from the current
one."""

SECRET_KEYS = {
    ("cluster", "cluster_key"),
    ("redis", "sentinel_password"),
    ("security", "api_key"),
    ("security", "jwt_secret"),
    ("webhooks", "secret"),
    ("dashboard", "token"),
    ("alerts", "url"),
}
"""Settings whose values are never shown, beside those of API keys. `is_secret` knows both."""

PROGRAM_KEYS = {
    ("nginx", "binary"),
    ("alerts", "command"),
}
"""Settings that hold a program, or a program with its arguments. A program whose name has no slash is found on PATH. A
relative path starts where those of PATH_KEYS do."""

BYTE_KEYS = PATH_KEYS | PROGRAM_KEYS
"""Settings that may hold any byte, because they are paths. All other text must be UTF-8."""

REMOVED_KEYS = {
    ("redis", "breaker_failures"),
    ("redis", "breaker_pause"),
    ("redis", "breaker_successes"),
    ("redis", "compress_from_bytes"),
    ("websocket", "write_delay_ms"),
}
"""Settings of earlier versions. They are refused like unknown keys, with a hint that they were removed."""


def all_keys() -> Iterator[Key]:
    """Yield every setting, but those of channel patterns and API keys."""
    for section, kind in SECTIONS.items():
        for key in kind.__struct_fields__:
            yield section, key


def channels_section(pattern: str) -> str:
    """Return the section of a channel pattern, as wsd.toml writes it: `channels."room:*"`."""
    return f'{CHANNELS}."{pattern}"'


def pattern_of(section: str) -> str | None:
    """Return the channel pattern of a section, or None for another section. The reverse of `channels_section`."""
    return section[len(CHANNELS) + 2 : -1] if section.startswith(CHANNELS + '."') else None


def api_key_section(name: str) -> str:
    """Return the section of an API key: `api_keys.NAME`."""
    return f"{API_KEYS}.{name}"


def api_key_of(section: str) -> str | None:
    """Return the name of the API key of a section, or None for another section. The reverse of `api_key_section`."""
    return section.removeprefix(API_KEYS + ".") if section.startswith(API_KEYS + ".") else None


def kind_of(section: str) -> type[Section]:
    """Return the type of a section, also of one for a channel pattern or an API key."""
    if api_key_of(section) is not None:
        return ApiKeyConfig
    return SECTIONS.get(section, ChannelConfig)


def is_secret(key: Key) -> bool:
    """Tell whether the value of a setting is never shown."""
    return key in SECRET_KEYS or (api_key_of(key[0]) is not None and key[1] == "key")
