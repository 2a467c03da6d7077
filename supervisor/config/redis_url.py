"""Check the URL of a Redis, and show it without its password."""

import re
from urllib.parse import parse_qsl, urlsplit

from wsd.worker.contract.redis_address import SCHEMES, leads_to_sentinels, sentinel_address

_YES_OR_NO = r"(?i:0|1|f|t|false|true|n|y|no|yes)"
_SECONDS = r"\d{1,9}(\.\d{1,9})?"
_ANY = r"(?s:.+)"

OPTIONS = {
    "db": r"\d{1,9}",
    "username": _ANY,
    "password": _ANY,
    "client_name": r"[!-~]+",
    "protocol": "[23]",
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _YES_OR_NO,
    "health_check_interval": r"\d{1,9}",
    "max_connections": r"[1-9]\d{0,8}",
}
"""Options of a URL that wsd supports, each with a pattern of its values.

The other options of redis-py change what its calls return, or cannot be written in a URL.
"""

TLS_OPTIONS = {
    "ssl_ca_certs": _ANY,
    "ssl_ca_path": _ANY,
    "ssl_certfile": _ANY,
    "ssl_keyfile": _ANY,
    "ssl_password": _ANY,
    "ssl_ciphers": _ANY,
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": _YES_OR_NO,
}
"""Further options that `rediss://` has."""


def redis_url_problem(url: str) -> str | None:
    """Say what is wrong with the URL of a Redis, or return None.

    The text repeats no part of the URL, since each part may belong to a password.
    """
    if leads_to_sentinels(url):
        try:
            found = sentinel_address(url)
        except ValueError as exc:
            return str(exc)
        assert found is not None
        return _option_problem(found.query.removeprefix("?"), OPTIONS | TLS_OPTIONS if found.tls else OPTIONS)
    if not re.match(r"(rediss?://|unix://)", url):
        return "must begin with redis://, rediss:// or unix://, or with redis+sentinel:// or rediss+sentinel://"
    address, _, query = url.partition("://")[2].partition("?")
    if not url.startswith("unix://") and "@" in re.sub(r"^[^/#]*", "", address):
        return "has a password with / or #: write them as %2F and %23"
    if "@" in query and "=" not in query:
        return "has a password with ?: write it as %3F"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises
    except ValueError:
        return "has no number as its port, or a password with characters that must be written as %40, %2F and the like"
    if parts.scheme == "unix":
        if parts.path in ("", "/"):
            return "must name a socket, like unix:///run/redis.sock"
    elif not re.fullmatch(r"/?|/\d{1,9}/?", parts.path):
        return "must have the number of a database as its path, like redis://host:6379/0, or no path"
    return _option_problem(parts.query, OPTIONS | TLS_OPTIONS if parts.scheme == "rediss" else OPTIONS)


def _option_problem(query: str, options: dict[str, str]) -> str | None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in options:
            if name in TLS_OPTIONS:
                return f"has {name}, which needs rediss://"
            return f"has an option that is none of {', '.join(options)}"
        if not re.fullmatch(options[name], value):
            return f"has a value of {name} that Redis does not take"
    return None


def redacted(url: str) -> str:
    """Show a URL without any part of a password, even of a URL that is broken."""
    scheme, separator, rest = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return "***"
    shown = ""
    if "@" in rest and not rest.startswith("/"):  # a URL of only a path holds no password
        secret, _, rest = rest.rpartition("@")
        if re.search(r"[/?#]", secret):
            return f"{scheme}://***"  # nobody can tell where the password ends
        user, colon, _ = secret.partition(":")
        shown = f"{user}:***@" if colon else "***@"
    place, mark, query = rest.partition("?")
    hosts = re.split("[/#]", place, maxsplit=1)[0]
    listed = hosts.split(",") if scheme in SCHEMES else [hosts]
    if not all(re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?", host) for host in listed):
        return f"{scheme}://***"  # the text in place of the port may be a password
    values = "&".join(
        re.sub(r"^(?!(?:db|protocol)=)([^=]*)=.*", r"\1=***", part, flags=re.DOTALL) for part in query.split("&")
    )
    return f"{scheme}://{shown}{place}{mark}{values}"
