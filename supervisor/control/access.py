"""Access to the dashboard: the token that opens it, and the decision about each visitor.

A visitor always needs a token: `dashboard.token`, or a token that wsd derives from a secret of its own. The derived
token opens the page only from this machine.
"""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass

from msgspec import Struct

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.services.nginx_config import DASHBOARD_PATH
from wsd.templates import PAGE_HEADERS

HEADERS = {**PAGE_HEADERS, "Cache-Control": "no-store"}


class Visitor(Struct, frozen=True):
    """A request for the dashboard, as far as it decides about access."""

    address: str  # of the client, as nginx knows it
    host: str  # the name by which the browser reached us
    forwarded: str = ""  # the headers of another proxy in front of nginx
    proof: str = ""  # the cookie, which proves that the browser had the token
    changes: bool = False  # the request would change something
    intent: bool = True  # the request comes from the page itself


@dataclass(frozen=True)
class Access:
    """The token that opens the page.

    `secret` never leaves the state directory. `configured` is `dashboard.token`. Where that is empty, the token is
    derived from the secret, and the page opens on this machine alone.
    """

    secret: str
    configured: str = ""

    @property
    def token(self) -> str:
        return self.configured or self._derive("token")[:43]

    @property
    def proof(self) -> str:
        """The value that the browser keeps instead of the token. Nobody can compute it without the secret."""
        return self._derive(f"cookie {self.token}")

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    def is_proof(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.proof.encode())

    def _derive(self, use: str) -> str:
        return hmac.new(self.secret.encode(), f"wsd dashboard {use}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Refusal:
    status: int
    reason: str
    retry_after: int = 0  # seconds

    @property
    def headers(self) -> dict[str, str]:
        return {**HEADERS, "Retry-After": str(self.retry_after)} if self.retry_after else HEADERS


def refusal(visitor: Visitor, access: Access) -> Refusal | None:
    """Return why the visitor may not enter, or None. Pure."""
    if visitor.changes and not visitor.intent:
        return Refusal(403, "this did not come from the dashboard's own page")
    if not access.configured:
        if not _is_loopback(visitor.address) or visitor.forwarded:
            return Refusal(
                403, "only from this machine, and through no other proxy; dashboard.token opens it to others"
            )
        if not _is_loopback_name(visitor.host):
            # DNS rebinding: the owner of a name lets it point to 127.0.0.1, so that their page can read ours.
            return Refusal(403, "only as localhost or 127.0.0.1; dashboard.token opens it under other names")
    if access.is_proof(visitor.proof):
        return None
    where = "dashboard.token of wsd.toml" if access.configured else "`wsd status` shows the address with it"
    return Refusal(401, f"the token is needed: {where}")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_loopback_name(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return name == "localhost" or _is_loopback(name.strip("[]"))


def access_to(cluster: Cluster) -> Access:
    """Return the token that opens the dashboard of this cluster."""
    return Access(cluster.dashboard_secret, cluster.config.dashboard.token)


def dashboard_url(cluster: Cluster) -> str:
    """Return the address of the dashboard, empty where there is none.

    The address holds the token, unless that is dashboard.token of wsd.toml.
    """
    if cluster.nginx is None or not cluster.config.dashboard.enabled:
        return ""
    url = f"{cluster.url}{DASHBOARD_PATH[1:]}"
    return url if cluster.config.dashboard.token else f"{url}?token={access_to(cluster).token}"
