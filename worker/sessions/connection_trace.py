"""The trace of a session: what happened to its connections, and why they were closed. `wsd trace` shows it.

Each connection keeps a record. That of a live connection is on its worker, which is asked over the broker. Those of
connections that have ended are in Redis.
"""

from collections.abc import Awaitable, Callable

from msgspec import Struct, field

from wsd.worker.broker.questions import Questions
from wsd.worker.contract.redis_keys import worker_channel
from wsd.worker.delivery.connection_record import ConnectionRecord, SessionTrace
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.sessions.session_store import SessionInfo, SessionState
from wsd.worker.wire.close_codes import Ending


class AskRecord(Struct, frozen=True, tag="ask_flight"):
    """The question to the worker that serves a session: what has happened to its connection so far?"""

    asker: str  # worker id
    question: str
    session_id: str


class RecordAnswer(Struct, frozen=True, tag="flight"):
    """The answer to AskRecord."""

    question: str
    record: ConnectionRecord = field(name="flight")


class Tracer:
    """Records how connections of this worker end, and finds out what happened to those of any worker."""

    def __init__(
        self,
        worker_id: str,
        node_id: str,
        keeper: SessionKeeper,
        *,
        find: Callable[[str], Outbox | None],
        publish: Callable[[str, Struct], Awaitable[object]],
    ) -> None:
        """`find` returns the connection of a session on this worker. `publish` sends a message to another worker, on
        the channel of that worker in the broker."""
        self._worker_id = worker_id
        self._node_id = node_id
        self._keeper = keeper
        self._find = find
        self._publish = publish
        self._asked: Questions[ConnectionRecord] = Questions()

    def ended(self, outbox: Outbox, ending: Ending) -> None:
        """Record a connection that has ended."""
        if not self._keeper.ended_connections.takes_one():
            return
        outbox.note("closed", f"{ending}; {len(outbox.channels)} channels, at most {outbox.peak_bytes} bytes waited")
        self._keeper.add_record(self._record_of(outbox))

    def refused(self, outbox: Outbox, why: str) -> None:
        """Record a connection that was refused, and why."""
        if self._keeper.ended_connections.takes_one():
            outbox.note("refused", why)
            self._keeper.add_record(self._record_of(outbox))

    async def sessions(self, name: str) -> list[str]:
        """Return the ids of the sessions that `name` stands for: a session id, or the id of a user.

        For a user these are the sessions that it has now, and had lately. Raises RedisUnavailableError.
        """
        ended, store = self._keeper.ended_connections, self._keeper.store
        if await store.get(name) is not None or await ended.of_session(name):
            return [name]
        live = [session.session_id for session in await store.list_by_user(name)]
        return list(dict.fromkeys([*reversed(live), *await ended.sessions_of(name)]))

    async def trace(self, session_id: str, live_workers: frozenset[str]) -> SessionTrace:
        """Return what happened to a session's connections, as far as it is kept. Raises RedisUnavailableError."""
        records = await self._keeper.ended_connections.of_session(session_id)
        session = await self._keeper.store.get(session_id)
        if session is not None and session.state is SessionState.CONNECTED:
            records += await self._under_way(session, live_workers)
        return SessionTrace(
            session_id=session_id,
            user_id=session.user_id if session is not None else records[-1].user_id if records else "",
            state=session.state if session is not None else "ended",
            records=records,
        )

    def answer(self, asked: AskRecord) -> RecordAnswer | None:
        """Answer another worker's question. Return None when the connection is not on this worker."""
        outbox = self._find(asked.session_id)
        return RecordAnswer(asked.question, self._record_of(outbox)) if outbox is not None else None

    def answered(self, answer: RecordAnswer) -> None:
        """Take another worker's answer to a question of this one."""
        self._asked.add_answer(answer.question, answer.record)

    async def _under_way(self, session: SessionInfo, live_workers: frozenset[str]) -> list[ConnectionRecord]:
        """Return the record of a session's present connection; an empty list if its worker does not answer."""
        session_id, owner = session.session_id, session.worker_id
        if (outbox := self._find(session_id)) is not None:
            return [self._record_of(outbox)]
        if owner in live_workers:
            return await self._asked.ask(
                lambda question: self._publish(worker_channel(owner), AskRecord(self._worker_id, question, session_id)),
                bool,
            )
        return [
            ConnectionRecord(
                session_id=session_id,
                user_id=session.user_id,
                worker_id=owner,
                node_id=session.node_id,
                events=[(session.last_seen, "last seen", "its worker has ended without a word since")],
            )
        ]

    def _record_of(self, outbox: Outbox) -> ConnectionRecord:
        return ConnectionRecord(
            session_id=outbox.session_id,
            user_id=outbox.user_id,
            worker_id=self._worker_id,
            node_id=self._node_id,
            events=list(outbox.events),
        )
