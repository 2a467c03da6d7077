"""The guide to rooms: its application, its commands and its page, in a browser."""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.browser import Tab, open_tab
from tests.support.cluster import Cluster, clean_env
from tests.support.pages import ROOT, blocks, write_files
from tests.support.waiting import until
from wsd.client import RequestError, SyncWsdClient

PAGE = ROOT / "docs" / "guides" / "rooms.md"


def lines(tab: Tab) -> list[str]:
    found: list[str] = json.loads(
        tab.run("JSON.stringify([...document.querySelectorAll('#messages li')].map((line) => line.textContent))")
    )
    return found


def say(tab: Tab, text: str, to: str = "") -> None:
    tab.run(f"to.value = {to!r}; text.value = {text!r}; form.requestSubmit()")


def run_commands(port: int) -> None:
    """Type the commands of the page, and compare what they print."""
    [console] = [block.text.splitlines() for block in blocks(PAGE) if block.language == "console"]
    commands = [line.removeprefix("$ ") for line in console if line.startswith("$ ")]
    shown = [line for line in console if not line.startswith("$ ")]
    script = "".join(f"{command}\necho\n" for command in commands).replace(":8000", f":{port}")
    printed = subprocess.run(["bash", "-c", script], env=clean_env(), capture_output=True, text=True, timeout=30).stdout
    assert printed.split("\n")[1:-1] == shown


def test_rooms_with_members_and_conversations(tmp_path: Path, browser: int) -> None:
    write_files(PAGE, tmp_path)
    with Cluster(tmp_path, "rooms:app", "--workers", "2") as cluster, ExitStack() as tabs:
        run_commands(cluster.port)

        def page(name: str) -> Tab:
            tab = tabs.enter_context(open_tab(browser, "about:blank"))
            tab.go(f"http://127.0.0.1:{cluster.port}/?name={name}&room=tea")
            return tab

        def post(tab: Tab, path: str, method: str = "POST") -> None:
            token = "await (await fetch('/token/ann')).text()"
            call = f"fetch('{path}', {{ method: '{method}', headers: {{ Authorization: `Bearer ${{{token}}}` }} }})"
            assert tab.run(f"(async () => (await {call}).status)()") == 200

        ann, bob, cem = page("ann"), page("bob"), page("cem")
        for tab in (ann, bob):
            until(lambda tab=tab: tab.text("#people") == "ann, bob", "both in the room")  # type: ignore[misc]
        until(lambda: cem.text("#state") == "you may not subscribe to room:tea")

        ann.run("text.value = 'h'; text.dispatchEvent(new Event('input'))")
        until(lambda: bob.text("#typing") == "typing: ann")
        assert ann.text("#typing") == "", "nobody sees himself type"
        say(ann, "hello")
        until(lambda: lines(bob) == ["room:tea ann: hello"])
        assert bob.text("#typing") == "", "the message has come"

        say(ann, "psst", to="bob")
        until(lambda: lines(bob)[1:] == ["dm:ann:bob ann: psst"])
        until(lambda: lines(ann) == lines(bob))
        assert lines(cem) == []
        again = page("bob")
        until(lambda: sorted(lines(again)) == sorted(lines(bob)), "the same messages in a page that is opened later")

        post(ann, "/rooms/tea/members/cem")
        say(bob, "welcome")
        until(lambda: lines(cem) == ["room:tea bob: welcome"], "a page that the server has let in")
        post(ann, "/rooms/tea/members/cem", "DELETE")
        until(lambda: cem.text("#state") == "you are no longer in room:tea")
        say(bob, "he is gone")
        until(lambda: lines(ann)[-1] == "room:tea bob: he is gone")
        assert len(lines(cem)) == 1

        url = f"ws://127.0.0.1:{cluster.port}/live/ws"
        with SyncWsdClient(url, token=ann.run("fetch('/token/ann').then((answer) => answer.text())")) as client:
            with pytest.raises(RequestError, match="send broadcasts"):
                client.broadcast({})
            with pytest.raises(RequestError, match="send direct messages"):
                client.direct("cem", {})
