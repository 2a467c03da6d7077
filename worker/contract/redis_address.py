"""Read the URL of a Redis that Sentinels watch: where the Sentinels are, and by which name they know the primary. Pure.

    redis+sentinel://user:password@host:26379,host:26379/NAME/DB?option=value

User and password are those of the servers. With `rediss+sentinel://`, servers and Sentinels are reached by TLS.
"""

import re
from dataclasses import dataclass

SCHEMES = ("redis+sentinel", "rediss+sentinel")

SENTINEL_PORT = 26379
"""The port of a Sentinel whose URL names none."""

Place = tuple[str, int]
"""The host and the port of a server."""


@dataclass(frozen=True)
class SentinelAddress:
    """The parts of the URL of a Redis that Sentinels watch."""

    sentinels: tuple[Place, ...]
    name: str  # by which the Sentinels know the primary
    tls: bool
    credentials: str  # of the servers, as the URL has them, with their "@"; "" without any
    database: str  # "" for the first one
    query: str  # the options, with their "?"; "" without any

    def server_url(self, place: Place) -> str:
        """Return the URL of one server, with the user, the database and the options of this URL."""
        scheme = "rediss" if self.tls else "redis"
        database = f"/{self.database}" if self.database else ""
        return f"{scheme}://{self.credentials}{shown(place)}{database}{self.query}"


def leads_to_sentinels(url: str) -> bool:
    """Tell whether a URL names Sentinels, well or not."""
    return url.partition("://")[0] in SCHEMES


def sentinel_address(url: str) -> SentinelAddress | None:
    """Read a URL that names Sentinels. None for any other URL.

    Raises ValueError with the rest of a sentence that begins with the setting. It repeats no part of the URL, since
    each part may belong to a password.
    """
    if not leads_to_sentinels(url):
        return None
    scheme, _, rest = url.partition("://")
    address, mark, query = rest.partition("?")
    authority, _, path = address.partition("/")
    if "@" in path or "#" in address:
        raise ValueError("has a password with / or #: write them as %2F and %23")
    if "@" in query and "=" not in query:
        raise ValueError("has a password with ?: write it as %3F")
    credentials, at, hosts = authority.rpartition("@")
    sentinels = tuple(_place(host) for host in hosts.split(","))
    name, slash, database = path.removesuffix("/").partition("/")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise ValueError(
            "must name the primary as the Sentinels know it, like redis+sentinel://host:26379/mymaster, "
            "with letters, digits and . _ -"
        )
    if slash and not re.fullmatch(r"[0-9]{1,9}", database):
        raise ValueError("must have the number of a database behind the name of the primary, like /mymaster/0, or none")
    return SentinelAddress(sentinels, name, scheme == "rediss+sentinel", credentials + at, database, mark + query)


def _place(text: str) -> Place:
    """Read `host`, `host:port`, `[::1]` or `[::1]:port`. Raises ValueError."""
    if not text:
        raise ValueError("has an empty host among its Sentinels: list them as host:26379,host:26379")
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]\x00-\x20\x7f]+))(?::([0-9]{1,5}))?", text)
    if found is None or not 0 < int(found[3] or SENTINEL_PORT) < 65536:
        raise ValueError(
            "has a Sentinel that is not host:port, or a password with characters that must be written as %40, %2F "
            "and the like"
        )
    return found[1] or found[2], int(found[3] or SENTINEL_PORT)


def shown(place: Place) -> str:
    """Write a place as `host:port`, with an IPv6 address in brackets."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
