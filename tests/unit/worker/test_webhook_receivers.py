"""The receivers of webhooks that the documentation shows, run as they stand there."""

import base64
import json
import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.support.webhook_receiver import KEY
from wsd.worker.hooks.event_queue import Entry
from wsd.worker.hooks.records import SessionFacts, event_of
from wsd.worker.hooks.signing import batch, headers

DOCUMENT = Path(__file__).parent.parent.parent.parent / "docs" / "hooks.md"


def _blocks() -> tuple[str, str]:
    """Return the two receivers of the document."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (fastapi_receiver,) = [block for block in blocks if "FastAPI" in block]
    (django_receiver,) = [block for block in blocks if "django" in block]
    return fastapi_receiver, django_receiver


def _with_fastapi(namespace: dict[str, Any]) -> Callable[[bytes, dict[str, str]], int]:
    client = TestClient(namespace["app"])
    return lambda body, sent: client.post("/webhooks", content=body, headers=sent).status_code


def _with_django(namespace: dict[str, Any]) -> Callable[[bytes, dict[str, str]], int]:
    from django.test import RequestFactory  # noqa: PLC0415 - it needs settings first

    factory = RequestFactory()

    def post(body: bytes, sent: dict[str, str]) -> int:
        others = {name: value for name, value in sent.items() if name != "content-type"}
        request = factory.post("/webhooks", data=body, content_type="application/json", headers=others)
        status: int = namespace["receive"](request).status_code
        return status

    return post


@pytest.mark.parametrize("framework", ["fastapi", "django"])
def test_the_receivers_of_the_document_verify_signatures(framework: str) -> None:
    if framework == "django":
        from django.conf import settings as django_settings  # noqa: PLC0415 - only this test needs it

        if not django_settings.configured:
            django_settings.configure(ALLOWED_HOSTS=["*"])
    module = types.ModuleType("receiver_of_the_document")
    sys.modules[module.__name__] = module
    exec(_blocks()[framework == "django"], module.__dict__)
    post = (_with_django if framework == "django" else _with_fastapi)(module.__dict__)
    facts = SessionFacts(session_id="s", user_id="ann", username="Ann", connected_at=1.0)
    webhook = batch([Entry("1-0", event_of("connected", "1-0", 2.0, facts, ()))])
    assert base64.b64decode("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=") == KEY
    now = time.time()
    good = dict(headers(webhook, KEY, now))
    assert post(webhook.body, good) < 300
    assert post(webhook.body, good) < 300
    assert list(module.seen) == ["s:connected"]
    assert module.seen["s:connected"] == json.loads(webhook.body)["events"][0]
    assert post(webhook.body + b" ", good) == 401
    assert post(webhook.body, dict(headers(webhook, b"another key", now))) == 401
    assert post(webhook.body, dict(headers(webhook, KEY, now - 3600))) == 401
    assert post(webhook.body, {**good, "webhook-id": "batch_other"}) == 401
