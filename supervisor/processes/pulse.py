"""The signs of life of a process: its heartbeats, and its answers to probes. `monitoring.health` judges them. Pure."""

from dataclasses import dataclass

from wsd.worker.contract.heartbeat import Heartbeat


@dataclass
class Pulse:
    """The signs of life of one process since it became ready. Times are seconds of the caller's monotonic clock."""

    seen_at: float  # its last sign of life
    silence_confirmed: float = 0.0  # the silence when it last answered a probe without a newer heartbeat
    probing_since: float | None = None  # when a probe was sent that is still unanswered
    beat: Heartbeat | None = None
    messages_in_rate: float | None = None  # per second, between the last two heartbeats
    messages_out_rate: float | None = None
    refused_at: float | None = None  # when a heartbeat last reported that Redis refused a message

    def receive(self, beat: Heartbeat, now: float) -> None:
        """Take note of a heartbeat from Redis. One that was read before is no sign of life."""
        before = self.beat
        if before is not None and before.worker_id == beat.worker_id:
            if beat.beat <= before.beat:
                return
            seconds = beat.uptime - before.uptime
            self.messages_in_rate = (beat.messages_in - before.messages_in) / seconds
            self.messages_out_rate = (beat.messages_out - before.messages_out) / seconds
        known = before.refused if before is not None and before.worker_id == beat.worker_id else 0
        if beat.refused > known:
            self.refused_at = now
        self.beat = beat
        self.seen_at = now
        self.silence_confirmed = 0.0

    def answer(self, beat: Heartbeat, now: float) -> None:
        """Take note of the answer to a probe. It is a sign of life only if its heartbeat is newer than the last one."""
        self.probing_since = None
        self.silence_confirmed = now - self.seen_at
        self.receive(beat, now)

    def restart_silence(self, now: float) -> None:
        """Count the silence from now on, and forget a probe that is still unanswered."""
        self.seen_at = now
        self.silence_confirmed = 0.0
        self.probing_since = None
