"""The recipes for alerts in the documentation work as they are shown."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from wsd.supervisor.alerts.delivery import DeliveryError, run_command
from wsd.supervisor.alerts.ledger import Alert

pytestmark = pytest.mark.anyio

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
TEXT = '@worker-1 ended: "exit code 1"\\n & $HOME `id` é'
"""A text with what shells, curl and JSON treat specially."""
ALERT = Alert(event="began", problem="worker-1", text=TEXT, node_id="web-1")


class Receiver(BaseHTTPRequestHandler):
    bodies: list[str]
    status = 200

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[type[Receiver]]:
    """Yield the handler of a web server, which keeps what it was sent."""
    handler = type("OwnReceiver", (Receiver,), {"bodies": []})
    with HTTPServer(("127.0.0.1", 0), handler) as http:
        handler.url = f"http://127.0.0.1:{http.server_port}/"  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield handler
        http.shutdown()
        thread.join()


def recipe(title: str, place: str, replacement: str, directory: Path) -> str:
    """Write the script below a title of the documentation to a file, with a place replaced, and return its path."""
    section = OPERATIONS.read_text("utf-8").partition("## Alerts")[2].partition("\n## ")[0]
    after = section.partition(f"**{title}")[2]
    found = re.search(r"```sh\n(.*?)```", after, re.DOTALL)
    assert found is not None, title
    assert place in found[1]
    script = directory / "alert.sh"
    script.write_text(found[1].replace(place, replacement), "utf-8")
    script.chmod(0o700)
    return str(script)


@pytest.mark.parametrize(
    ("title", "place"),
    [
        ("A chat service", "https://chat.example.com/"),
        ("A service that takes plain text", "https://ntfy.example.com/"),
    ],
)
async def test_the_recipe_for_a_web_service_sends_the_text(
    tmp_path: Path, receiver: type[Receiver], title: str, place: str
) -> None:
    command = recipe(title, place, receiver.url, tmp_path)  # type: ignore[attr-defined]
    await run_command(command, ALERT, 30, set())
    [body] = receiver.bodies
    assert (json.loads(body) == {"text": f"web-1: {TEXT}"}) if "chat" in place else (body == TEXT)
    receiver.status = 500
    with pytest.raises(DeliveryError, match="ended with exit code"):
        await run_command(command, ALERT, 30, set())


async def test_the_recipe_for_a_mail_sends_the_text(tmp_path: Path) -> None:
    sendmail = tmp_path / "sendmail"
    sendmail.write_text('#!/bin/sh\necho "$@" > "$0.arguments"\ncat > "$0.mail"\n')
    sendmail.chmod(0o700)
    command = recipe("A mail", "/usr/sbin/sendmail", str(sendmail), tmp_path)
    await run_command(command, ALERT, 30, set())
    assert (tmp_path / "sendmail.arguments").read_text() == "-i -t\n"
    header, _, body = (tmp_path / "sendmail.mail").read_text("utf-8").partition("\n\n")
    assert "To: ops@example.com\nSubject: wsd web-1: worker-1 began\n" in header
    assert body == f"{TEXT}\n"
