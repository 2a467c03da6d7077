"""The connections of this worker: how they are admitted, replaced, sent away and taken out."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

from wsd.worker.delivery.close_delays import close_delays
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.errors import TooManyConnectionsError
from wsd.worker.manager.client_sessions import ClientSession
from wsd.worker.manager.counts import Counts
from wsd.worker.manager.membership import Membership
from wsd.worker.manager.user_limit import UserLimit
from wsd.worker.sessions.connection_trace import Tracer
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.wire import frames
from wsd.worker.wire.close_codes import CLEAN_CODES, SESSION_ENDED_REASON, CloseCode, Ending, Side

FORGOTTEN_SECONDS = 5.0
"""How long after the end of a WebSocket its application may take to call `disconnect`."""

COME_BACK = (CloseCode.INTERNAL_ERROR, CloseCode.RESTART, CloseCode.SLOW_READER, CloseCode.IDLE)
"""Close codes by which the server asks a client to come back, whatever the client did."""


class Registry:
    """The connections of this worker, from their admission to their end.

    What holds at all times:

    - A connection is bound to its session, then admitted (counted with its user, and its session stored), then entered
      into its channels. With the first channel it becomes a connection of this worker: `Fanout` has it.
    - However a connection ends, and whatever fails on its way in, it is taken out once: out of the count of its user,
      and out of its channels. After that its session is closed once: it ends, or waits for its client to come back.
    - A session that is resumed on this worker is not closed in between. Its earlier connection is taken out before the
      new one is counted, and its later end is not noted any more.
    """

    def __init__(
        self,
        fanout: Fanout,
        outlet: Outlet,
        membership: Membership,
        users: UserLimit,
        keeper: SessionKeeper,
        tracer: Tracer,
        counts: Counts,
    ) -> None:
        self._fanout = fanout
        self._outlet = outlet
        self._membership = membership
        self._users = users
        self._keeper = keeper
        self._tracer = tracer
        self._counts = counts
        self._loop: asyncio.AbstractEventLoop | None = None  # the event loop of the newest connection

    def bind(self, outbox: Outbox | None, session: ClientSession, dialect: Dialect) -> Outbox:
        """Bind the outbox of a new connection to its session, and close the session's earlier connection here, if any.

        `dialect`: the one in which the client is told what happens. Return the outbox, a new one if None is given. It
        sends nothing before `Outbox.release`.
        """
        self._loop = asyncio.get_running_loop()
        info = session.info
        outbox = outbox or Outbox(self._outlet)
        outbox.outlet = self._outlet
        outbox.bind(info.session_id, info.user_id, info.username, on_gone=self._socket_ended, dialect=dialect)
        outbox.note(*(("resumed", f"from {info.previous_worker}") if session.resumed else ("connected",)))
        if (earlier := self._fanout.get(info.session_id)) is not None:
            self._replace(earlier)
        return outbox

    @asynccontextmanager
    async def admission(self, outbox: Outbox, session: ClientSession) -> AsyncIterator[None]:
        """Admit a connection that is bound. The caller enters it into its channels in the block.

        If the block raises, the connection is taken out again: a new session ends, a resumed one may be resumed again.

        Raises TooManyConnectionsError; ValueError for a session that no store can hold.
        """
        try:
            await self._count_with_user(outbox)
            # The user's channel is subscribed while the session is stored.
            with self._membership.expecting(outbox):
                if session.resumed:
                    self._keeper.adopt(outbox.session_id)
                else:
                    await self._keeper.open(session.info)
                yield
        except BaseException:
            self._take_out(outbox)
            self._keeper.close(outbox.session_id, clean=not session.resumed)
            raise

    async def _count_with_user(self, outbox: Outbox) -> None:
        try:
            await self._users.enter(outbox)
        except TooManyConnectionsError:
            self._counts.refusals["too_many_connections"] += 1
            self._tracer.refused(outbox, f"the user has {self._users.limit} connections already")
            raise

    def _replace(self, earlier: Outbox) -> None:
        """Close the previous connection of a session that was resumed on this worker."""
        ending = Ending(Side.SERVER, CloseCode.SESSION_ENDED, "resumed by another connection")
        self._note_end(earlier, ending)
        earlier.close(ending.code, ending.reason)

    def remove(self, outbox: Outbox, code: int, reason: str = "") -> None:
        """Take out a connection that has ended with a close code. Does nothing if it is not connected any more.

        After a clean close (1000, 1001) its session ends, too. Otherwise the client may come back to it.
        """
        if outbox not in self._fanout:
            return
        ending = outbox.ended or Ending(Side.UNKNOWN, code, frames.close_reason(reason))
        self._note_end(outbox, ending)
        sent_away = ending.side is not Side.CLIENT and ending.code in COME_BACK
        clean = code in CLEAN_CODES or not outbox.dialect.resumable
        self._keeper.close(outbox.session_id, clean=clean, sent_away=sent_away)

    def handle_collected(self, outbox: Outbox) -> None:
        """End a connection whose `Connection` was garbage collected. Called on whatever thread that happens."""
        if outbox in self._fanout and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.remove, outbox, CloseCode.ABNORMAL)
            self._loop.call_soon_threadsafe(outbox.close, CloseCode.INTERNAL_ERROR, "the application has let go of it")

    def _socket_ended(self, outbox: Outbox) -> None:
        """Give the application a moment to call `disconnect`. It may keep the handle for ever and never call it."""
        if outbox in self._fanout:
            asyncio.get_running_loop().call_later(FORGOTTEN_SECONDS, self.remove, outbox, CloseCode.ABNORMAL)

    def _note_end(self, outbox: Outbox, ending: Ending) -> None:
        self._counts.closes[ending.label] += 1
        self._tracer.ended(outbox, ending)
        self._take_out(outbox)

    def _take_out(self, outbox: Outbox) -> None:
        self._users.leave(outbox)
        self._membership.leave_all(outbox)

    def send_away(self, count: int, longest: float) -> float:
        """Close the `count` oldest connections with 1012, so that their clients resume on other workers.

        They are paced as in a drain, within `longest` seconds. Return the seconds until the last of them is closed.
        """
        chosen = list(islice((outbox for outbox in self._fanout if outbox.closed is None), count))
        delays = close_delays(len(chosen), longest, random.Random())
        loop = asyncio.get_running_loop()
        for delay, outbox in zip(delays, chosen, strict=True):
            loop.call_later(delay, outbox.close, CloseCode.RESTART, "rebalance")
        return max(delays, default=0.0)


def end_session(fanout: Fanout, session_id: str) -> None:
    """Close the connection of a session that another worker ended or took over."""
    if (outbox := fanout.get(session_id)) is not None:
        outbox.close(CloseCode.SESSION_ENDED, SESSION_ENDED_REASON)


def fail_session(fanout: Fanout, session_id: str) -> None:
    """Close the connection of a session that cannot be stored."""
    if (outbox := fanout.get(session_id)) is not None:
        outbox.fail()
