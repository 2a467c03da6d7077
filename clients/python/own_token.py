"""When the application is asked for the next token: before the one that the client has expires. No I/O."""

from collections.abc import Callable

from wsd.client.settings import REFRESH_FROM, REFRESH_SPREAD, SHORTEST_TOKEN_SECONDS

LARGEST_SECONDS = 1e9
"""A token that is valid for longer does not expire."""


def time_to_ask(now: float, seconds: object, random: Callable[[], float]) -> float | None:
    """Return when the application is asked for the next token. None: not at all.

    `seconds`: for how long the token is valid, as the hub says. Anything but a number: it does not say so.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    if not SHORTEST_TOKEN_SECONDS <= seconds <= LARGEST_SECONDS:
        return None
    return now + seconds * (REFRESH_FROM + REFRESH_SPREAD * random())


class OwnToken:
    """The token of an open connection, which the client replaces before it expires.

    If that fails, the hub ends the connection with the token, and the client comes back with another one.
    """

    def __init__(self, random: Callable[[], float], *, is_fixed: bool) -> None:
        """`is_fixed`: no function can give another token. `random` returns numbers from 0 to below 1."""
        self.ask_at: float | None = None  # the application is asked for the next token then
        self._is_asked = False
        self._random = random
        self._is_fixed = is_fixed

    def expires_in(self, now: float, seconds: object) -> None:
        """Note for how many seconds the token is valid, see `time_to_ask`."""
        self.forget()
        if not self._is_fixed:
            self.ask_at = time_to_ask(now, seconds, self._random)

    def forget(self) -> None:
        """Note that there is no connection any more. What the application answers is of no use then."""
        self.ask_at, self._is_asked = None, False

    def is_due(self, now: float) -> bool:
        """Return True if the application is to be asked now. That is said once."""
        if self.ask_at is None or now < self.ask_at:
            return False
        self.ask_at, self._is_asked = None, True
        return True

    def answered(self) -> bool:
        """Note that the application has answered. Return True if it was asked."""
        was_asked, self._is_asked = self._is_asked, False
        return was_asked
