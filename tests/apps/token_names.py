"""Authentication by tokens such as `ann.admin`, which are a name and a role. They last for as long as the role says."""

import asyncio
import time

from starlette.datastructures import Headers, QueryParams
from starlette.types import Scope

from wsd import Identity

LIFETIMES = {"brief": 1.0}


async def authenticate(scope: Scope) -> Identity | None:
    """Admit whoever has a token in the query or in the header Authorization.

    The function takes a minute for the role `slow`.
    """
    query, bearer = QueryParams(scope["query_string"]), Headers(scope=scope).get("authorization", "")
    name, _, role = (query.get("token") or bearer.removeprefix("Bearer ")).partition(".")
    if role == "slow":
        await asyncio.sleep(60)
    lifetime = LIFETIMES.get(role, 0.0)
    return Identity(name, claims={"role": role}, expires_at=time.time() + lifetime if lifetime else 0.0)


def authorize(identity: Identity, action: str, channel: str) -> bool:
    """Allow everything in the channel that has the name of the client's role."""
    return channel == identity.claims.get("role")
