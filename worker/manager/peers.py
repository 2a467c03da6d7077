"""Messages between workers: notices and questions of the others, and the questions of this worker."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Struct

from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.broker.questions import Questions
from wsd.worker.contract.redis_keys import EVERY_WORKER, worker_channel
from wsd.worker.logs import get_logger
from wsd.worker.manager.statistics import (
    MAX_LISTED,
    Answer,
    AskStatistics,
    ClusterStatistics,
    WorkerStatistics,
    merge,
)
from wsd.worker.manager.user_operations import ChangeMembership, CloseSession, MembershipChanged, UserOperations
from wsd.worker.sessions.connection_trace import AskRecord, RecordAnswer, Tracer
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.sessions.session_store import SessionChanged
from wsd.worker.wire.messages import encode

logger = get_logger(__name__)

MAX_QUESTIONS = 100
"""Questions of other workers that may wait here. Further ones are dropped: a worker waits for answers only a second."""


PublishToWorkers = Callable[[str, Struct], Awaitable[object]]
"""Sends a message to workers: to one on its own channel of the broker, or to all on EVERY_WORKER."""


async def publish_to_workers(broker: MessageBroker, channel: str, message: Struct) -> bool:
    """Send a message to workers, as `PublishToWorkers` says."""
    return await broker.publish(channel, encode(message))


class WorkerCame(Struct, frozen=True, tag="came"):
    """The announcement to all workers that a worker sends heartbeats for the first time, or again."""


WorkerMessage = (
    SessionChanged
    | WorkerCame
    | AskStatistics
    | Answer
    | AskRecord
    | RecordAnswer
    | ChangeMembership
    | MembershipChanged
    | CloseSession
)

_decoder: msgspec.json.Decoder[WorkerMessage] = msgspec.json.Decoder(WorkerMessage)


class Peers:
    """The other workers, as this one talks with them over the broker.

    Statistics and the records of live connections are not kept in Redis: a worker that needs them asks the others.
    """

    def __init__(
        self,
        worker_id: str,
        *,
        publish: PublishToWorkers,
        keeper: SessionKeeper,
        tracer: Tracer,
        statistics: Callable[[int], WorkerStatistics],
        users: UserOperations,
        worker_came: asyncio.Event,
    ) -> None:
        """`statistics` returns those of this worker, with as many of its largest users and channels as it is given.
        `worker_came` is set when a worker announces itself."""
        self.channels = (worker_channel(worker_id), EVERY_WORKER)
        self._worker_id = worker_id
        self._publish = publish
        self._keeper = keeper
        self._tracer = tracer
        self._statistics = statistics
        self._users = users
        self._worker_came = worker_came
        self._asked: Questions[WorkerStatistics] = Questions()
        self._questions: asyncio.Queue[AskStatistics | AskRecord] = asyncio.Queue(MAX_QUESTIONS)

    def received(self, payload: bytes) -> None:
        """Take a message that came on one of `channels`. Does not block."""
        try:
            message = _decoder.decode(payload)
        except msgspec.DecodeError as exc:
            logger.warning("dropped a message to this worker: %s", exc)
            return
        match message:
            case SessionChanged(session_id=session_id):
                self._keeper.changed(session_id)
            case AskStatistics() | AskRecord() if not self._questions.full():
                self._questions.put_nowait(message)
            case Answer(question=question, statistics=statistics):
                self._asked.add_answer(question, statistics)
            case RecordAnswer():
                self._tracer.answered(message)
            case ChangeMembership():
                self._users.wants_change(message)
            case MembershipChanged():
                self._users.answered(message)
            case CloseSession():
                self._users.close_session(message)
            case WorkerCame():
                self._worker_came.set()

    async def run(self) -> None:
        """Answer the questions of other workers until cancelled."""
        while True:
            asked = await self._questions.get()
            answer = (
                self._tracer.answer(asked)
                if isinstance(asked, AskRecord)
                else Answer(asked.question, self._statistics(asked.listed))
            )
            if answer is not None:
                await self._publish(worker_channel(asked.asker), answer)

    async def cluster_statistics(self, workers: int, *, offset: int, limit: int) -> ClusterStatistics:
        """Ask all workers for their statistics, see `DistributedWebSocketManager.cluster_statistics`."""
        listed = min(offset + limit, MAX_LISTED)
        answers = await self._asked.ask(
            lambda question: self._publish(EVERY_WORKER, AskStatistics(self._worker_id, question, listed)),
            lambda found: len({answer.worker_id for answer in found}) >= workers,
        )
        found = {answer.worker_id: answer for answer in answers}
        return merge(found.values(), complete=len(found) >= workers, offset=offset, limit=limit)
