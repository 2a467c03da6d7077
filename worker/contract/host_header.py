"""Judge the Host header of requests that only this machine may make."""

import ipaddress
import re
import socket
from collections.abc import Collection

WRONG_HOST = "only by an address, as localhost, or by a name of nginx.admin_hosts"
"""Why statistics and metrics are refused, where `is_own_host` says no."""


def is_own_host(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header names this machine: by an address, as localhost, by its host name, or by one of `names`.

    A site may let its own name point here, so that its pages reach what only this machine may (DNS rebinding). Such a
    request has the site's name in its Host header.
    """
    found = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::[0-9]{1,5})?", host.strip().lower())
    if found is None:
        return False
    name = found[1].removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        name = name.removesuffix(".")
        known = {"localhost", socket.gethostname().lower(), *(known.lower() for known in names)}
        return name in known or name.endswith(".localhost")
    return True
