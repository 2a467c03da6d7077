"""Subscription tokens: JSON Web Tokens (RFC 7519) by which a backend gives one client access to one channel.

They are signed with the same keys as tokens for connections. The claim `channel` tells the two apart.
"""

import time
from collections.abc import Mapping
from typing import Any, get_args

from wsd.worker.security.authentication import AuthenticationError
from wsd.worker.security.authorization import Action
from wsd.worker.security.channel_access import READING, Grant
from wsd.worker.security.json_web_tokens import CHANNEL_CLAIM, JWTAuthenticator, JWTSettings, end_of

ALLOW_CLAIM = "allow"


class SubscriptionTokens:
    """Verifies the tokens that clients show when they subscribe."""

    def __init__(self, settings: JWTSettings) -> None:
        """Read the keys. Raises ValueError if the settings contradict each other, or a file has no key."""
        self._settings = settings
        self._verifier = JWTAuthenticator(settings)

    async def grant(self, token: str, channel: str, user_id: str) -> Grant:
        """Return what a token gives a user in a channel.

        Raises AuthenticationError, as `JWTAuthenticator.claims` does.
        """
        claims = await self._verifier.claims(token)
        given = actions_of(claims, channel, user_id, self._settings.user_claim)
        return Grant(actions=given, expires_at=end_of(claims, self._settings.leeway, time.time()))


def actions_of(claims: Mapping[str, Any], channel: str, user_id: str, user_claim: str) -> tuple[Action, ...]:
    """Return what the claims of a valid token allow a user to do in a channel.

    `channel` is the name of a channel, or the beginning of names with `*` at its end. The claim with the user id may be
    absent: the token is for whoever has it then. `allow` lists actions, by default `subscribe`, to which the history
    and the list of members belong.

    Raises AuthenticationError for a token for something else, or for somebody else.
    """
    pattern = claims.get(CHANNEL_CLAIM)
    if not isinstance(pattern, str) or not pattern:
        raise AuthenticationError("the token names no channel")
    is_meant = channel.startswith(pattern[:-1]) if pattern.endswith("*") else channel == pattern
    if not is_meant:
        raise AuthenticationError("the token is for another channel")
    if user_claim in claims:
        user = claims[user_claim]
        if isinstance(user, bool) or not isinstance(user, str | int) or str(user) != user_id:
            raise AuthenticationError("the token is for another user")
    allowed = claims.get(ALLOW_CLAIM, ["subscribe"])
    actions = get_args(Action)
    if not isinstance(allowed, list) or not all(action in actions for action in allowed):
        raise AuthenticationError(f"the token's {ALLOW_CLAIM} must be a list of {', '.join(actions)}")
    if "subscribe" not in allowed:
        raise AuthenticationError("the token does not allow it")
    return tuple(action for action in actions if action in allowed or action in READING)
