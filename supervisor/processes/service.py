"""The interface of a program that the supervisor runs in a slot: implemented for workers, nginx and Valkey."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from wsd.supervisor.processes.slot import Urgency
from wsd.supervisor.state_dir.records import ProcessRecord
from wsd.worker.contract.heartbeat import Heartbeat


@dataclass(frozen=True)
class Command:
    """The program of a process, and the surroundings it starts in."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()
    directory: Path | None = None  # the working directory; None is our own
    umask: int = -1  # -1 is our own


class LifeSign(StrEnum):
    """The way in which the supervisor learns that the processes of a service are alive."""

    HEARTBEAT = "heartbeat"  # they write heartbeats to Redis
    REDIS = "redis"  # they are the Redis that the supervisor talks to anyway
    ANSWER = "answer"  # they answer when they are asked at every interval


class Service(ABC):
    """A program that fills the slot `name`."""

    name: str
    patience: float
    """Seconds that a process may drain before it is asked to end with Urgency.QUICK."""

    signals: Mapping[Urgency, signal.Signals] = {
        Urgency.DRAIN: signal.SIGTERM,
        Urgency.QUICK: signal.SIGTERM,
    }
    """The signals that ask a process to end. Urgency.KILL is SIGKILL for every service."""
    orphan_signal = signal.SIGKILL
    """The signal for processes that a dead process has left in its process group."""

    life_sign = LifeSign.ANSWER
    can_overlap = False
    """Whether a new process may run beside the one that it replaces."""

    @abstractmethod
    def command(self, incarnation: int) -> Command:
        """Return how to start incarnation number `incarnation`. Raises CommandError or OSError."""

    @abstractmethod
    async def is_ready(self, incarnation: int) -> bool:
        """Tell whether an incarnation serves.

        Called repeatedly after its start. Must not raise, nor take longer than a second.
        """

    async def answers(self, timeout: float) -> bool:
        """Ask the process that serves, and tell whether it answers. Only for services without LifeSign.HEARTBEAT.

        Must not raise, nor take longer than `timeout` seconds.
        """
        return await self.is_ready(0)

    async def probe(self, timeout: float) -> Heartbeat | None:
        """Ask the serving process for a heartbeat directly, without Redis. Only for services with LifeSign.HEARTBEAT.

        Returns None when it does not answer within `timeout` seconds. Must not raise.
        """
        return None

    def adopt(self, record: ProcessRecord) -> bool:
        """Take note of a process that the previous supervisor left running, and tell whether it was promoted."""
        return True

    def is_outdated(self, incarnation: int) -> bool:
        """Tell whether an incarnation was started with other settings than a new one would be."""
        return False

    def has_lost_socket(self, incarnation: int) -> bool:
        """Tell whether the socket on which an incarnation accepts clients was removed."""
        return False

    def promote(self, incarnation: int) -> None:  # noqa: B027 - most have nothing to do
        """Let clients reach an incarnation that is ready, instead of the one before. Raises OSError."""
