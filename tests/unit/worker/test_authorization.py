"""An application's authorization that fails, hangs, or is cancelled by itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from wsd.worker.security import authorization
from wsd.worker.security.authentication import Authenticate, AuthenticationError, Identity, identify
from wsd.worker.security.authorization import is_allowed

pytestmark = pytest.mark.anyio


class Undecided:
    def __bool__(self) -> bool:
        raise RuntimeError


class Broken:
    def __await__(self) -> Any:
        raise ValueError


async def hangs() -> bool:
    await asyncio.Event().wait()
    return True


async def was_cancelled() -> bool:
    inner = asyncio.create_task(asyncio.sleep(60))
    inner.cancel()
    await inner
    return True


async def is_late_by_itself() -> bool:
    raise TimeoutError


async def fails_twice() -> bool:
    raise ExceptionGroup("both", [ValueError(), KeyError()])


FAILING = [hangs, was_cancelled, is_late_by_itself, fails_twice, Undecided, Broken, lambda: 1 / 0]


@pytest.mark.parametrize("answer", FAILING)
async def test_an_authorization_that_does_not_answer_allows_nothing(
    answer: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorization, "AUTHORIZE_SECONDS", 0.05)
    async with asyncio.timeout(5):
        assert await is_allowed(lambda *_: answer(), Identity("ann"), "subscribe", "room") is False


@pytest.mark.parametrize("answer", FAILING)
async def test_an_authentication_that_does_not_answer_admits_no_client(answer: Callable[[], Any]) -> None:
    authenticate: Authenticate = lambda scope: answer()  # noqa: E731
    async with asyncio.timeout(5):
        with pytest.raises(AuthenticationError):
            await identify({"type": "websocket"}, authenticate, 0.05)


async def test_a_client_that_is_gone_is_asked_for_no_longer() -> None:
    asking = asyncio.create_task(is_allowed(lambda *_: hangs(), Identity("ann"), "subscribe", "room"))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
