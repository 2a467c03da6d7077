"""Tokens that expire: what becomes of a client with one token, of a function that fails, and of the page."""

import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from tests.support.browser import CHROMIUM, Tab, chromium, open_tab
from tests.support.cluster import Cluster
from tests.support.waiting import eventually, until
from wsd.client import RequestError, WsdClient

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
TOKEN_SECONDS = 3


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    config = f'[security]\njwt_secret = "{SECRET}"\n\n[cluster]\ndrain_seconds = 1.0\n'
    with Cluster(tmp_path_factory.mktemp("tokens"), "--workers", "2", config=config) as running:
        yield running


def token(user_id: str = "source", seconds: float = TOKEN_SECONDS) -> str:
    return jwt.encode({"sub": user_id, "name": user_id, "exp": time.time() + seconds}, SECRET, "HS256")


async def test_a_client_with_one_token_gives_up_when_it_has_expired(cluster: Cluster) -> None:
    async with WsdClient(cluster.url, token=token("ann", 1)) as client:
        with pytest.raises(RequestError, match="closed: the token has expired"):
            await anext(aiter(client))
        assert client.state.code == 4401
        with pytest.raises(RequestError, match="closed: the token has expired"):
            await client.publish("numbers", 1)


async def test_the_command_makes_tokens_that_the_workers_accept(cluster: Cluster) -> None:
    made = cluster.wsd("token", "--user", "42", "--name", "Ann", "--ttl", "60")
    assert made.returncode == 0
    async with WsdClient(cluster.url, token=made.stdout.strip()) as client:
        await client.publish("room", 1)
        assert client.user is not None
        assert (client.user.user_id, client.user.username) == ("42", "Ann")
        assert 0 < client.welcome["token_expires_in"] <= 60


async def test_a_function_without_a_token_is_asked_again(cluster: Cluster) -> None:
    asked: list[int] = []

    async def sometimes() -> str:
        asked.append(len(asked))
        if len(asked) < 3:
            raise OSError("the login service is away")
        return token("ann", 600)

    async with WsdClient(cluster.url, token=sometimes) as client:
        assert (await client.publish("room", 1)).offset is not None
    assert len(asked) == 3


# The page


def entrance(tab: Tab) -> str:
    """Return the reason why the page asks for a token, and an empty text while it does not ask."""
    return str(tab.run("document.querySelector('#entrance').checkVisibility() ? refused.textContent : ''"))


def enter(tab: Tab, text: str) -> None:
    tab.run(f"document.querySelector('#token').value = {text!r}; document.querySelector('#entrance').requestSubmit()")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH")
async def test_the_page_asks_for_a_token_says_why_and_misses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with chromium(tmp_path) as port, open_tab(port, f"http://127.0.0.1:{cluster.port}/") as tab:

        def connected() -> bool:
            return tab.run("document.querySelector('#state')?.dataset.state") == "open" and not entrance(tab)

        until(lambda: entrance(tab) == "a token is missing")
        enter(tab, "rubbish")
        until(lambda: entrance(tab) == "the token is not valid")
        enter(tab, "no subprotocol")
        until(lambda: entrance(tab).startswith("no token: "))
        enter(tab, token("ann", -600))
        until(lambda: entrance(tab) == "the token has expired")
        enter(tab, token("ann"))
        until(connected)
        assert tab.text("#user") == "ann"
        await eventually(lambda: entrance(tab) == "the token has expired")
        async with WsdClient(cluster.url, token=token) as source:
            await source.broadcast({"text": "said meanwhile"})
        enter(tab, token("ann", 600))
        until(connected)
        until(lambda: "said meanwhile" in tab.text("#messages"))
        tab.call("Page.reload")
        until(connected, "a page that keeps its token")
