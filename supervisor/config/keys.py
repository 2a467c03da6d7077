"""List the settings by section and key, with those that hold a path or a secret, and those that were removed."""

from collections.abc import Iterator

import msgspec

from wsd.supervisor.config.settings import Config, Section

Key = tuple[str, str]
"""A section and a name in it. The section of a channel pattern is `channels."room:*"`."""

CHANNELS = "channels"
SECTIONS: dict[str, type[Section]] = {
    field.name: field.type for field in msgspec.structs.fields(Config) if field.name != CHANNELS
}
"""All sections but those of channel patterns."""

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

SECRET_KEYS = {("security", "api_key"), ("security", "jwt_secret"), ("dashboard", "token")}
"""Settings whose values are never shown."""

BYTE_KEYS = PATH_KEYS | {("nginx", "binary")}
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
    """Yield every setting, but those of channel patterns."""
    for section, kind in SECTIONS.items():
        for key in kind.__struct_fields__:
            yield section, key


def channels_section(pattern: str) -> str:
    """Return the section of a channel pattern, as wsd.toml writes it: `channels."room:*"`."""
    return f'{CHANNELS}."{pattern}"'


def pattern_of(section: str) -> str | None:
    """Return the channel pattern of a section, or None for another section. The reverse of `channels_section`."""
    return section[len(CHANNELS) + 2 : -1] if section.startswith(CHANNELS + '."') else None
