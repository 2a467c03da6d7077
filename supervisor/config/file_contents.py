"""Compare the contents of files that settings name, which can change while no setting does."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wsd.supervisor.config.keys import Key
from wsd.supervisor.config.settings import Config

CERTIFICATE: tuple[Key, ...] = (("nginx", "tls_certificate"), ("nginx", "tls_key"))
INCLUDE: Key = ("nginx", "include")
PUBLIC_KEY: Key = ("security", "jwt_public_key_file")
JWKS: Key = ("security", "jwt_jwks_file")

Digests = Mapping[Key, str]
"""Digests of files, by the setting that names each. The digest of a file that cannot be read is empty."""


def digests(config: Config, keys: Iterable[Key] = (*CERTIFICATE, INCLUDE, PUBLIC_KEY, JWKS)) -> dict[Key, str]:
    """Return the digests of the files that the settings `keys` name."""
    return {key: _digest(Path(path)) for key in keys if (path := getattr(getattr(config, key[0]), key[1]))}


def changed(before: Digests, after: Digests, config: Config) -> Iterator[tuple[Key, str]]:
    """Yield the settings whose file has new content, each with a text that says so.

    Settings that name a file only before or only after are left out: these settings themselves have changed.
    """
    for section, key in before.keys() & after.keys():
        if before[section, key] != after[section, key]:
            path = getattr(getattr(config, section), key)
            note = ", which the workers read without a restart" if (section, key) == JWKS else ""
            yield (section, key), f"{section}.{key}: {path} has new content{note}"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError:
        return ""
