"""The rules on who may do what in a channel: one decision, without I/O and without a clock.

The rules bind the clients of the hub. The application and the HTTP API may do everything.
"""

from enum import StrEnum

from msgspec import Struct

from wsd.worker.contract.channel_rules import Allowed
from wsd.worker.security.authentication import Identity
from wsd.worker.security.authorization import Action
from wsd.worker.wire.channel_names import BROADCAST, DIRECT

READING: tuple[Action, ...] = ("subscribe", "history", "presence")
"""What belongs to a subscription: a client that is given one may also read the history and the list of members."""


class ChannelAccess(Struct, frozen=True, kw_only=True):
    """The rules of one channel: who may do each action there, and the user to whom the channel belongs, if any."""

    subscribe: Allowed = "anyone"
    publish: Allowed = "anyone"
    history: Allowed = "anyone"
    presence: Allowed = "anyone"
    owner: str | None = None

    def allowed(self, action: Action) -> Allowed:
        found: Allowed = getattr(self, action)
        return found

    def is_open(self, action: Action) -> bool:
        """Return whether every client may do this, so that nothing else needs to be known."""
        return self.owner is None and self.allowed(action) == "anyone"


OPEN = ChannelAccess()
"""The rules of a channel in which every client may do everything."""


class Grant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The rights of a member beyond the rules of a channel, from a subscription token, the application, or both.

    It is stored in the session with the channel, and holds while the client is a member.
    """

    actions: tuple[Action, ...] = ()  # by the token
    expires_at: float = 0.0  # the end of the token, in seconds since the epoch; 0: never
    by_application: bool = False  # the application, or the HTTP API, made the client a member

    def allows(self, action: Action) -> bool:
        return action in self.actions or (self.by_application and action in READING)

    def with_(self, newer: "Grant") -> "Grant":
        """Return this grant together with another one. Of two tokens, the newer one counts."""
        token = newer if newer.actions else self
        by_application = self.by_application or newer.by_application
        return Grant(actions=token.actions, expires_at=token.expires_at, by_application=by_application)

    def at(self, now: float) -> "Grant | None":
        """Return what is left of the grant at a time. None: nothing is left."""
        return self.without_token() if self.actions and 0 < self.expires_at <= now else self

    def seconds_left(self, now: float) -> float | None:
        """Return for how many seconds from `now` the token is valid. None: it does not end, or there is none."""
        return max(0.0, self.expires_at - now) if self.actions and self.expires_at else None

    def without_token(self) -> "Grant | None":
        """Return what is left of the grant when its token has ended. None: nothing is left."""
        return BY_APPLICATION if self.by_application else None


BY_APPLICATION = Grant(by_application=True)
"""The grant of a member that the application, or the HTTP API, put into the channel."""


class Refusal(StrEnum):
    """The reason why the rules do not allow something. The value follows the sentence that says what is not allowed."""

    NOT_AUTHENTICATED = "only clients that the server has authenticated may"
    NO_TOKEN = "it needs a subscription token that allows it"  # noqa: S105 - no password
    OTHER_USER = "the channel belongs to another user"
    SERVER_ONLY = "only the server may"
    NOBODY = "no client may"


def refusal(access: ChannelAccess, identity: Identity, action: Action, grant: Grant | None = None) -> Refusal | None:
    """Decide whether a client may do something in a channel. Return why not, or None if it may.

    `grant`: what the client was given in this channel, as far as it is still valid.
    """
    allowed = access.allowed(action)
    if allowed == "nobody":
        return Refusal.NOBODY
    was_put_in = grant is not None and grant.by_application and action in READING
    if was_put_in and (action == "subscribe" or allowed != "server"):
        return None
    if allowed == "server":
        return Refusal.SERVER_ONLY
    if access.owner is not None and access.owner != identity.user_id:
        return Refusal.OTHER_USER
    is_granted = grant is not None and grant.allows(action)
    if allowed == "authenticated" and not (identity.authenticated or is_granted):
        return Refusal.NOT_AUTHENTICATED
    if allowed == "token" and not is_granted:
        return Refusal.NO_TOKEN
    return None


def refused(action: Action, channel: str, why: str = "") -> str:
    """Return the text of an error that names the action and the channel."""
    match action:
        case "publish" if channel == BROADCAST:
            what = "send broadcasts"
        case "publish" if channel == DIRECT:
            what = "send direct messages"
        case "publish":
            what = f"publish in {channel}"
        case "subscribe":
            what = f"subscribe to {channel}"
        case "history":
            what = f"read the history of {channel}"
        case "presence":
            what = f"see who is in {channel}"
    return f"you may not {what}" + (f": {why}" if why else "")
