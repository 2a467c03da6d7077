"""Settings of a client, and the times after which it acts. All times are in seconds, all sizes in bytes."""

from dataclasses import dataclass
from typing import Final

TOKEN_SECONDS: Final = 30.0
"""How long the application's token function may take."""

REFRESH_FROM: Final = 0.75
REFRESH_SPREAD: Final = 0.15
"""The part of a token's time after which the client asks for the next one, and the part over which that is spread at
random: tokens of many clients may have been made together."""

SHORTEST_TOKEN_SECONDS: Final = 1.0
"""A token that expires sooner is not replaced. The function may give one token again and again, until it expires."""

HANDSHAKE_SECONDS: Final = 15.0
"""How long the opening handshake may take, with the look-up of the name and TLS."""

WELCOME_SECONDS: Final = 30.0
"""How long the welcome may take. The hub itself waits up to 20 s for a Redis that restarts."""

ANSWER_SECONDS: Final = 10.0
"""After this long without a word from the hub, while a request is unanswered, the client sends a ping."""

PONG_SECONDS: Final = 15.0
"""How long the hub may be silent after a ping, before the connection counts as lost."""

LATE_SECONDS: Final = 2.0
"""A timer that is later than this was not late by chance: the process was stopped, or the machine slept."""

GRACE_SECONDS: Final = 5.0
"""After such a sleep, and when the network is back, the hub gets this long to show that the connection still lives."""

MAX_GRACES: Final = 3
"""A client waits so often in a row without a sign of life. Timers of hidden pages are always late, which must not delay
every end for ever."""

LIVED_SECONDS: Final = 10.0
"""A connection that has lived this long ends a row of failures: the next pause is a short one again."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 20.0
"""Limits of the longest pause before a new attempt. It doubles with each failure in a row."""

LONGEST_RETRY_AFTER_SECONDS: Final = 120.0
"""A server that asks a client to come back later (Retry-After) is obeyed up to here."""

FIRST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 15.0
"""The same for a request that the hub could not carry out now."""

READ_SECONDS: Final = 1.0
"""At most so often the hub is told what the application has read."""

MAX_TRIES: Final = 5
"""A request whose connection is lost this many times before its answer is rejected: it may be the cause."""

MAX_IN_FLIGHT: Final = 64
"""Requests that are on their way at the same time."""

MAX_IN_FLIGHT_BYTES: Final = 262_144
"""Bytes of the requests that are on their way at the same time. One request may be larger."""

MAX_UIDS: Final = 5000
"""The uids that are remembered to recognize a message that comes twice."""


@dataclass(frozen=True)
class Settings:
    """What an application may set."""

    request_timeout: float | None = 60.0  # of a call that names none; None waits for ever
    ping_interval: float = 30.0  # a connection on which nothing comes for this long is tried with a ping
    max_waiting: int = 10_000  # calls without an answer
    max_waiting_bytes: int = 8_388_608  # of these calls
    token_is_fixed: bool = True  # no function can give a new token, so an expired one ends the client
    has_name: bool = False  # the application names the user, so the hub makes up no guest
