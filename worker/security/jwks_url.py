"""The keys of a JSON Web Key Set (RFC 7517) that a URL answers with."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum, auto
from functools import lru_cache
from typing import Any

from wsd.worker.logs import get_logger
from wsd.worker.security.authentication import UndecidedError

logger = get_logger(__name__)

KEEP_SECONDS = 300.0
"""A set that is older than this is fetched again when a token comes."""

PAUSE_SECONDS = 5.0
"""The least time between two requests to the URL, whatever tokens come and whatever the URL answers."""

FETCH_SECONDS = 5.0
"""How long the URL may be silent."""

UNREADABLE = "the keys of tokens cannot be read at this time"


class Step(Enum):
    """The step before a key is looked up in the set."""

    NOTHING = auto()
    FETCH = auto()  # the set that is there serves until the new one is
    FETCH_AND_WAIT = auto()


def first_step(*, known: bool, age: float, rested: float, answers: bool) -> Step:
    """Return what comes before a key is looked up in the set. Times are in seconds.

    `known`: the set has the key. `age` of the set, infinite if there is none. `rested`: the time since the last fetch,
    infinite if there was none or one is under way. `answers`: the last fetch did not fail.
    """
    if (known and age < KEEP_SECONDS) or rested < PAUSE_SECONDS:
        return Step.NOTHING
    return Step.FETCH if known and not answers else Step.FETCH_AND_WAIT


@lru_cache(maxsize=8)
def keys_behind(url: str, clock: Callable[[], float] = time.monotonic) -> "JWKSURL":
    """Return the keys behind a URL: one object for tokens of connections and of channels, so that both ask once."""
    return JWKSURL(url, clock)


class JWKSURL:
    """The keys of the set that a URL answers with, by id. One request is under way at most, in a thread.

    While the URL does not answer, the keys of the last answer hold.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        """Note the URL. The set is fetched when the first token comes."""
        import jwt  # noqa: PLC0415 - 5 MB that only this kind of authentication needs

        self._jwt = jwt
        self._url = url
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=FETCH_SECONDS)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wsd JWKS")
        self._fetch: Future[None] | None = None
        self._keys: list[jwt.PyJWK] | None = None
        self._answers = True
        self._read_at = self._tried_at = -math.inf

    async def key(self, kid: str | None) -> Any:
        """Return the key with this id, or without an id the only key of the set.

        The key is returned without its algorithm, which a set need not name (RFC 7517, 4.4).

        Raises jwt.PyJWTError if there is no such key, and UndecidedError if that cannot be found out now.
        """
        now, keys = self._clock(), self._keys
        step = first_step(
            known=keys is not None and (kid is None or any(key.key_id == kid for key in keys)),
            age=now - self._read_at,
            rested=now - self._tried_at if self._fetch is None or self._fetch.done() else math.inf,
            answers=self._answers,
        )
        if step is not Step.NOTHING:
            fetch = self._begin()
            if step is Step.FETCH_AND_WAIT:
                await asyncio.shield(asyncio.wrap_future(fetch))  # others wait for it, too
        if (keys := self._keys) is None:
            raise UndecidedError(UNREADABLE)
        for key in keys:
            if key.key_id == kid if kid is not None else len(keys) == 1:
                return key.key
        if kid is not None and not (step is Step.FETCH_AND_WAIT and self._answers):
            raise UndecidedError(UNREADABLE)  # a new set may have the key
        raise self._jwt.InvalidKeyError("no such key")

    def _begin(self) -> "Future[None]":
        """Begin to fetch the set, unless that is under way. Return the future of its end, which never fails."""
        if self._fetch is None or self._fetch.done():
            self._fetch = self._thread.submit(self._read)
        return self._fetch

    def _read(self) -> None:
        try:
            found = [key for key in self._client.get_jwk_set().keys if key.public_key_use in ("sig", None)]
            if not found:
                raise ValueError("it has no keys for signatures")
        except Exception as exc:  # noqa: BLE001 - whatever the network and the answer cause
            self._answers = False
            logger.warning("security.jwt_jwks_url %s gives no keys, the last ones hold: %s", self._url, exc)
        else:
            self._keys, self._answers, self._read_at = found, True, self._clock()
        finally:
            self._tried_at = self._clock()
