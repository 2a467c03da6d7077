"""The reason why an application does not run, as `wsd dev` shows it.

It is shown whole at first, and in one line as long as it stays the same.
"""

from dataclasses import dataclass, field

from wsd.worker.contract.dev_channel import Failure


@dataclass
class Failures:
    """The failures so far. Only the last one is remembered, until something succeeds."""

    _last: Failure | None = field(default=None, init=False)

    def lines(self, failure: Failure, consequence: str) -> list[str]:
        """Return the lines to show, of which the first gets a mark. `consequence`: what becomes of the clients."""
        if failure == self._last:
            return [f"still: {failure.reason}"]
        self._last = failure
        trace = [f"    {line}" for line in failure.traceback.split("\n")] if failure.traceback else []
        return [failure.reason, *trace, f"    {consequence}"]

    def succeeded(self) -> None:
        """Forget the last failure, so that the next one is shown as a whole."""
        self._last = None
