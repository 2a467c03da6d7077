"""Sessions of the clients that connect: an earlier one that the client resumes, or a new one."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from wsd.worker.channels.joining import PATIENCE_SECONDS
from wsd.worker.channels.recovery import RETRY_SECONDS
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import ConnectionEndedError, RedisUnavailableError
from wsd.worker.manager.redis_steps import RedisSteps
from wsd.worker.manager.turns import Turns
from wsd.worker.sessions.session_store import Claim, SessionInfo, SessionStore
from wsd.worker.wire import messages as wire
from wsd.worker.wire.names import names_problem


@dataclass(frozen=True)
class ClientSession:
    """A session, with the secret of its resume token. The store has only a digest of the secret."""

    info: SessionInfo
    secret: str
    resumed: bool

    def welcome(
        self,
        channels: dict[str, wire.ChannelState],
        refused: dict[str, wire.LeaveReason],
        limits: wire.Limits,
        token_expires_in: float | None,
    ) -> wire.Welcome:
        """Return the first message to the client.

        `channels`: its state in each channel that it is in. `refused`: the channels that it may not be in any more.
        `token_expires_in`: in seconds, None if it does not expire.
        """
        info = self.info
        return wire.Welcome(
            session_id=info.session_id,
            user_id=info.user_id,
            username=info.username,
            worker_id=info.worker_id,
            node_id=info.node_id,
            resumed=self.resumed,
            resume_token=f"{info.session_id}.{self.secret}",
            channels=channels,
            limits=limits,
            refused=refused,
            token_expires_in=token_expires_in,
        )


class ClientSessions:
    """Finds or makes the sessions of the clients that connect to this worker."""

    def __init__(self, store: SessionStore, redis: RedisSteps, turns: Turns, *, worker_id: str, node_id: str) -> None:
        self._store = store
        self._redis = redis
        self._turns = turns
        self._worker_id = worker_id
        self._node_id = node_id

    async def find_or_make(
        self,
        user_id: str,
        username: str,
        metadata: Mapping[str, Any] | None,
        resume_token: str,
        outbox: Outbox | None,
    ) -> ClientSession:
        """Return the session that the token resumes, if it is one of this user's; otherwise a new session.

        A session that is resumed belongs to this worker from then on. A new session is not stored yet. A client with
        a token waits up to PATIENCE_SECONDS for a Redis that is away, and then gets a new session. `outbox`: the one of
        its WebSocket, if that has one already.

        Raises ConnectionEndedError if the WebSocket has ended before the session was found: its client may be back in
        another connection, which it would lose to this one.
        Raises ValueError for a name that nobody may have, and TypeError or ValueError for metadata that is not JSON.
        """
        username = username or user_id
        if problem := names_problem(user_id, username):
            raise ValueError(problem)
        metadata = msgspec.json.decode(msgspec.json.encode(metadata or {}), type=dict[str, Any])  # as the store has it
        secret = secrets.token_urlsafe(16)
        session_id, _, old_secret = resume_token.partition(".")
        if resume_token:
            claim = Claim(
                session_id=session_id,
                user_id=user_id,
                username=username,
                token=digest(old_secret),
                new_token=digest(secret),
                worker_id=self._worker_id,
                node_id=self._node_id,
            )
            if (claimed := await self._claim(claim, outbox)) is not None:
                return ClientSession(claimed, secret, resumed=True)
        return ClientSession(self._new(user_id, username, metadata, digest(secret)), secret, resumed=False)

    async def _claim(self, claim: Claim, outbox: Outbox | None) -> SessionInfo | None:
        gives_up_at = time.monotonic() + PATIENCE_SECONDS
        await self._turns()  # clients come back together
        while True:
            if outbox is not None and outbox.ended is not None:
                raise ConnectionEndedError("the WebSocket ended before its session was found")
            with suppress(RedisUnavailableError):
                async with self._redis.step("a session was not resumed"):
                    return await self._store.claim(claim)
            if time.monotonic() > gives_up_at:
                return None
            await asyncio.sleep(RETRY_SECONDS)

    def _new(self, user_id: str, username: str, metadata: dict[str, Any], token: str) -> SessionInfo:
        now = time.time()
        return SessionInfo(
            session_id=secrets.token_hex(16),
            user_id=user_id,
            username=username,
            node_id=self._node_id,
            worker_id=self._worker_id,
            connected_at=now,
            last_seen=now,
            metadata=metadata,
            token=token,
        )


def digest(secret: str) -> str:
    """Return the digest of a resume token's secret. The store has the digest in place of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest() if secret else ""
