"""A function for the setting `authorize` that decides by the claims of a client's token."""

from wsd import Identity


def authorize(identity: Identity, action: str, channel: str) -> bool:
    """Allow what the claim `may` names, as the action, a space and the channel."""
    return identity.authenticated and f"{action} {channel}" in identity.claims.get("may", [])
