"""Check the addresses, networks, host names and URLs that settings hold."""

import ipaddress
import re
from urllib.parse import urlsplit

from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.config.wording import brief


def is_network(text: str) -> bool:
    """Tell whether nginx and ipaddress both accept an address or network.

    ipaddress alone accepts any text behind a percent sign.
    """
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text and re.fullmatch(r"[^/]+(/[0-9]+)?", text) is not None


def key_url_problem(url: str) -> str | None:
    """Say why keys must not be fetched from a URL, or return None.

    Whoever can change the answer on its way can be any user, so http is for this machine alone.
    """
    shown = brief(redacted(url) if "@" in url else url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return f"must be a URL like https://login.example.com/jwks.json, got {shown}"
    if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-~]+", url):
        return f"must be a URL like https://login.example.com/jwks.json, got {shown}"
    if parts.username is not None:
        return "must hold no user and no password"
    if parts.scheme == "http" and not _is_loopback(host):
        return f"must begin with https://, because the keys decide who a client is, got {shown}"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_problem(host: str) -> str | None:
    """Say why nothing can listen on a host, or return None.

    IPv4 addresses, IPv6 addresses with or without brackets, and host names are accepted.
    """
    shown = brief(host)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        if ipaddress.ip_address(bare) and "%" not in bare:  # nginx cannot listen on an address with a zone
            return None
    except ValueError:
        pass
    address, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and host_problem(address) is None:
        return f"must be an address without a port, got {shown}: put {port} into cluster.port"
    labels = host.split(".")
    is_name = len(host) <= 253 and all(  # RFC 1035, 2.3.4
        re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", label) for label in labels
    )
    if not is_name or labels[-1].isdecimal():  # a name that ends in a number is a mistyped address (RFC 3696, 2)
        return f"must be an address or a host name, got {shown}"
    return None
