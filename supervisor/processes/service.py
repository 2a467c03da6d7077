"""What the supervisor must know about a program to run it in a slot; workers, nginx and Valkey each say it."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from wsd.supervisor.processes.slot import Urgency
from wsd.supervisor.state_dir import ProcessRecord
from wsd.worker.contract.heartbeat import Heartbeat


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    env: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()
    directory: Path | None = None  # to start in, None: our own
    umask: int = -1  # -1: our own


class LifeSign(StrEnum):
    """How the supervisor knows that the processes of a service are alive."""

    HEARTBEAT = "heartbeat"  # they write heartbeats to Redis
    REDIS = "redis"  # they are the Redis that the supervisor talks to anyway
    ANSWER = "answer"  # they answer when they are asked at every interval


class Service(ABC):
    """A program that fills the slot `name`."""

    name: str
    patience: float
    """Seconds to drain before it is urged."""

    signals: Mapping[Urgency, signal.Signals] = {
        Urgency.DRAIN: signal.SIGTERM,
        Urgency.QUICK: signal.SIGTERM,
    }
    """By which it is asked to end; to be killed is the same for all."""
    orphan_signal = signal.SIGKILL
    """For what a dead process leaves in its process group."""

    life_sign = LifeSign.ANSWER
    can_overlap = False
    """Whether a new process may run beside the one that it replaces."""

    @abstractmethod
    def command(self, incarnation: int) -> Command:
        """What to execute."""

    @abstractmethod
    async def is_ready(self, incarnation: int) -> bool:
        """Whether it serves. Asked again and again from its start; must not raise, nor take longer than a second."""

    async def answers(self, timeout: float) -> bool:
        """Whether a process that was ready still does what it is there for; asked of those without a heartbeat. Must
        not raise, nor take longer than `timeout` seconds."""
        return await self.is_ready(0)

    async def probe(self, timeout: float) -> Heartbeat | None:
        """Ask the serving process for a heartbeat directly, without Redis. Only for services with LifeSign.HEARTBEAT.

        Returns None when it does not answer within `timeout` seconds. Must not raise.
        """
        return None

    def adopt(self, record: ProcessRecord) -> bool:
        """Take note of a process that runs already; whether it is where clients find it."""
        return True

    def has_lost_socket(self, incarnation: int) -> bool:
        """Whether somebody has removed the socket at which this process was found."""
        return False

    def promote(self, incarnation: int) -> None:  # noqa: B027 - most have nothing to do
        """Put a ready incarnation where clients find it.  Raises OSError."""
