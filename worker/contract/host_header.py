"""Judge the Host header of requests that only this machine may make."""

import ipaddress
import re
import socket
from collections.abc import Collection

WRONG_HOST = "only by an address, as localhost, or by a name of nginx.admin_hosts"
"""Why statistics and metrics are refused, for a request whose Host header `is_own_host` does not accept."""


def is_own_host(host: str, names: Collection[str] = ()) -> bool:
    """Tell whether a Host header names this machine: by an address, as localhost, by its host name or one of `names`.

    Other names are refused because of DNS rebinding: a web site can let its own name point to this machine, so that
    browsers here let its pages read the answers. The Host header of such a request holds the name of that site.
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
