"""The contents of files that settings name: such a file can change while no setting does."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wsd.supervisor.config.keys import Key
from wsd.supervisor.config.sections import Config

CERTIFICATE: tuple[Key, ...] = (("nginx", "tls_certificate"), ("nginx", "tls_key"))
INCLUDE: Key = ("nginx", "include")
PUBLIC_KEY: Key = ("security", "jwt_public_key_file")
JWKS: Key = ("security", "jwt_jwks_file")

Digests = Mapping[Key, str]
"""The digest of each file that is named, by its setting; empty for a file that cannot be read."""


def digests(config: Config, keys: Iterable[Key] = (*CERTIFICATE, INCLUDE, PUBLIC_KEY, JWKS)) -> dict[Key, str]:
    """Read the files that the settings name."""
    return {key: _digest(Path(path)) for key in keys if (path := getattr(getattr(config, key[0]), key[1]))}


def changed(before: Digests, after: Digests, config: Config) -> Iterator[tuple[Key, str]]:
    """Yield the settings whose file is another than before, with a text that says it.

    A setting that names a file now and did not before is a change of that setting.
    """
    for section, key in before.keys() & after.keys():
        if before[section, key] != after[section, key]:
            path = getattr(getattr(config, section), key)
            note = ", which the workers read by themselves" if (section, key) == JWKS else ""
            yield (section, key), f"{section}.{key}: {path} has new content{note}"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    except OSError:
        return ""
