"""The command of alerts, where the machine has no room for it."""

import tempfile

import pytest

from wsd.supervisor.alerts.delivery import DeliveryError, run_command
from wsd.supervisor.alerts.ledger import Alert

pytestmark = pytest.mark.anyio


async def test_a_full_disk_is_an_alert_that_did_not_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(DeliveryError, match=r"alerts\.command cannot be run: .*No space left on device"):
        await run_command("true", Alert(event="test", problem="test", text="a text"), 1.0, set())


async def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(DeliveryError, match=r"alerts\.command cannot be run: .*no-such-command"):
        await run_command("no-such-command", Alert(event="test", problem="test", text="a text"), 1.0, set())
