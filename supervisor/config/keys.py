"""Name the settings: their sections, their keys, and which of them hold paths or secrets."""

from collections.abc import Iterator

import msgspec

from wsd.supervisor.config.sections import Config, Section

Key = tuple[str, str]  # section, name; of a channel pattern the section is `channels."room:*"`
CHANNELS = "channels"
SECTIONS: dict[str, type[Section]] = {
    field.name: field.type for field in msgspec.structs.fields(Config) if field.name != CHANNELS
}

PATH_KEYS = {
    ("cluster", "state_dir"),
    ("nginx", "tls_certificate"),
    ("nginx", "tls_key"),
    ("nginx", "acme_webroot"),
    ("nginx", "include"),
    ("security", "jwt_public_key_file"),
    ("security", "jwt_jwks_file"),
}
"""In wsd.toml a relative path starts from the file's directory, elsewhere from the current one."""

SECRET_KEYS = {("security", "api_key"), ("security", "jwt_secret"), ("dashboard", "token")}
"""Shown to nobody."""

BYTE_KEYS = PATH_KEYS | {("nginx", "binary")}
"""Paths may hold any byte. All other text is UTF-8."""

REMOVED_KEYS = {
    ("redis", "breaker_failures"),
    ("redis", "breaker_pause"),
    ("redis", "breaker_successes"),
    ("redis", "compress_from_bytes"),
    ("websocket", "write_delay_ms"),
}
"""Settings of earlier versions. Their names are refused like unknown ones, in words that say what became of them."""


def all_keys() -> Iterator[Key]:
    for section, kind in SECTIONS.items():
        for key in kind.__struct_fields__:
            yield section, key


def channels_section(pattern: str) -> str:
    return f'{CHANNELS}."{pattern}"'


def pattern_of(section: str) -> str | None:
    """The reverse of `channels_section`, None for another section."""
    return section[len(CHANNELS) + 2 : -1] if section.startswith(CHANNELS + '."') else None
