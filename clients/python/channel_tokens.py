"""The tokens of channels: when the application is asked for one. No I/O."""

from collections.abc import Callable
from dataclasses import dataclass

from wsd.client.effects import AskChannelToken, Effect
from wsd.client.own_token import time_to_ask
from wsd.client.requests import Request
from wsd.client.settings import FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, TOKEN_SECONDS


@dataclass
class Question:
    """One subscription, and when the application is asked for its token."""

    request: Request
    ask_at: float | None = None  # None: at once, or it has been asked already
    gives_up_at: float | None = None  # it has been asked, and must have answered by then
    failures: int = 0  # in a row


class ChannelTokens:
    """The subscriptions that wait for a token, and the channels whose token is to be replaced.

    The application is asked while there is a connection.
    """

    def __init__(self, random: Callable[[], float], emit: Callable[[Effect], None]) -> None:
        self._random = random
        self._emit = emit
        self._questions: dict[int, Question] = {}  # by the id of the request
        self._renew_at: dict[str, float] = {}  # by channel

    def add(self, request: Request) -> None:
        """Have the application asked for the token of a subscription, by its `source`."""
        self._questions[request.id] = Question(request)

    def take(self, request_id: int) -> Request | None:
        """Return the subscription with this id if it waits for a token, and wait no longer."""
        found = self._questions.pop(request_id, None)
        return None if found is None else found.request

    def expires_in(self, now: float, channel: str, seconds: object) -> None:
        """Note for how many seconds the token of a channel is valid, see `time_to_ask`."""
        self._renew_at.pop(channel, None)
        if (at := time_to_ask(now, seconds, self._random)) is not None:
            self._renew_at[channel] = at

    def to_renew(self, now: float) -> list[str]:
        """Return the channels that are to be subscribed to with another token now. Each is returned once."""
        due = [channel for channel, at in self._renew_at.items() if now >= at]
        for channel in due:
            del self._renew_at[channel]
        return due

    def hang_up(self) -> None:
        """Note that the connection has ended. On the next one, the application is asked anew."""
        for each in self._questions.values():
            each.ask_at = each.gives_up_at = None

    def deadline(self, grace_until: float) -> float | None:
        """Return when `act` must be called again. `grace_until`: the application may answer until then."""
        times = [each.ask_at for each in self._questions.values() if each.ask_at is not None]
        given = [each.gives_up_at for each in self._questions.values() if each.gives_up_at is not None]
        times += self._renew_at.values()
        times += [max(each, grace_until) for each in given]
        return min(times, default=None)

    def act(self, now: float, grace_until: float) -> list[int]:
        """Ask for the tokens that are to be asked for. Return the ids of those for which no answer came in time."""
        late = []
        for number, each in self._questions.items():
            if each.gives_up_at is not None:
                if now >= max(each.gives_up_at, grace_until):
                    late.append(number)
            elif each.ask_at is None or now >= each.ask_at:
                each.ask_at, each.gives_up_at = None, now + TOKEN_SECONDS
                self._emit(AskChannelToken(number, each.request.channel, each.request.source))
        return late

    def failed(self, now: float, request_id: int) -> Request | None:
        """Note that the application gave no token. Return the call that is to be rejected.

        None: no call waits. For a subscription that the client makes by itself, the application is asked again.
        """
        question = self._questions.get(request_id)
        if question is None:
            return None
        if not question.request.internal:
            return self.take(request_id)
        longest = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2 ** min(question.failures, 10))
        question.failures += 1
        question.ask_at, question.gives_up_at = now + longest * (0.5 + 0.5 * self._random()), None
        return None
