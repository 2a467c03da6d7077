"""The membership of a client in one channel: what the application wants, and where the hub has the client."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Pending:
    """A request to join or to leave a channel that the hub has not answered yet."""

    joins: bool
    is_call: bool  # the application waits for the answer


@dataclass
class Membership:
    """Membership is what the application said last, whatever the hub remembers of the session.

    Requests are answered in the order in which they are sent. Where `settled` and `inside` would differ in the end, the
    client sends one more request by itself: `repair` says which.
    """

    settled: bool = False  # the client belongs in the channel, as the last call has it that was answered, or as the hub
    by_hub: bool = False  # it was the hub that settled it: no call of the application has asked for the channel
    settled_by: int = 0  # the id of that call; answers to earlier ones settle nothing any more
    inside: bool = False  # the hub has the client in the channel, or may have it there
    is_kept: bool = False  # the hub does not let the client go, until the next connection at least
    token: object = None  # that the application gave to `subscribe`: a text, or what it is asked with for one
    heard: bool = False  # messages are delivered: from the answer to the last `subscribe` to the next `unsubscribe`
    pending: dict[int, Pending] = field(default_factory=dict)  # by the id of the request, in the order of sending

    @property
    def wanted(self) -> bool:
        """True if the application wants to be in the channel, as it said last."""
        said = {number: each.joins for number, each in self.pending.items() if each.is_call}
        last = max(said, default=0)
        return said[last] if last > self.settled_by else self.settled

    @property
    def is_over(self) -> bool:
        """True if nothing is left to remember."""
        return not (self.pending or self.settled or self.inside)

    def called(self, request: int, *, joins: bool) -> None:
        """Note a call of the application."""
        self.pending[request] = Pending(joins, is_call=True)
        self._look()

    def asked(self, request: int, *, joins: bool) -> None:
        """Note a request that the client sends for itself."""
        self.pending[request] = Pending(joins, is_call=False)

    def entered(self) -> None:
        """Note that the hub has made the client a member. What comes from now on belongs to this membership."""
        self.heard = True
        self._look()

    def put_in(self) -> None:
        """Note that the hub has made the client a member by itself. A request to leave that waits comes after that."""
        self.inside = self.heard = True
        if all(each.joins for each in self.pending.values()) and not self.settled:
            self.settled = self.by_hub = True
        self._look()

    def done(self, request: int) -> None:
        """Note that the hub has carried out a request."""
        given = self.pending.pop(request)
        self.inside = given.joins
        self.is_kept = self.is_kept and given.joins
        if given.is_call:
            self._settle(request, given.joins)
        if given.joins:
            self.heard = True
        self._look()

    def refused(self, request: int) -> bool:
        """Note that the hub has refused a request. Return True if the client has lost its place in the channel by that.

        Whoever wanted to leave has left, whatever the hub says.
        """
        given = self.pending.pop(request)
        if not given.joins:
            self.is_kept = True
        if given.is_call and not given.joins:
            self._settle(request, joins=False)
        is_lost = given.joins and not given.is_call and self.settled and not self.inside and not self.pending
        if is_lost:
            self.settled = False
        self._look()
        return is_lost

    def taken_out(self, *, for_good: bool) -> bool:
        """Note that the hub has taken the client out of the channel. Return True if the client has lost its place so.

        `for_good`: False where the client may come in again with another token. The application must have asked for the
        channel then.
        """
        self.inside = False
        return self._lost() if for_good or self.by_hub else False

    def given_up(self, request: int, *, was_sent: bool, is_on_its_way: bool) -> None:
        """Note that nobody waits any more for the answer to a request, which is answered only if `is_on_its_way`.

        A subscription that is given up never was. Whoever wanted to leave has left, also after earlier calls to join
        that have no answer yet.
        """
        given = self.pending[request]
        if given.is_call and not given.joins:
            self._settle(request, joins=False)
        given.is_call = False
        if not is_on_its_way:
            del self.pending[request]
            self.inside = self.inside or (given.joins and was_sent)
        self._look()

    def welcomed(self, *, inside: bool) -> bool:
        """Note whether a new connection is in the channel. Return True if the client has lost its place so.

        Only the hub can put the client again where the application has not asked to be.
        """
        self.inside, self.is_kept = inside, False
        is_lost = self._lost() if self.by_hub and not inside else False
        self.heard = self.heard or self.settled
        self._look()
        return is_lost

    def repair(self) -> Literal["subscribe", "unsubscribe"] | None:
        """Return the request that brings the client where it belongs, or None if nothing is to do now."""
        if self.is_kept and not self.settled:
            return None
        inside = self.inside
        for each in self.pending.values():  # which the hub is expected to carry out
            if each.is_call:
                return None
            inside = each.joins
        if inside == self.settled:
            return None
        return "subscribe" if self.settled else "unsubscribe"

    def _settle(self, request: int, joins: bool) -> None:
        if request > self.settled_by:
            self.settled, self.settled_by, self.by_hub = joins, request, False

    def _lost(self) -> bool:
        """Settle that the client is not to be in the channel. Return True unless that is so already, or calls wait."""
        is_lost = self.settled and not any(each.is_call for each in self.pending.values())
        self.settled = self.by_hub = False
        self._look()
        return is_lost

    def _look(self) -> None:
        """Stop hearing a channel that is not wanted, or left before it is entered again."""
        self.heard = self.heard and self.wanted and all(each.joins for each in self.pending.values())
