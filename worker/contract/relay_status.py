"""Define the record by which the relay tells the supervisor how it is."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Self

from wsd.worker.contract.json_records import check_types, decode

STATUS_PATH = "/status"
"""The path at the relay's socket that answers with the record."""


@dataclass(frozen=True, kw_only=True)
class RelayStatus:
    """The state of a relay. Counters start at 0 with the process; all else is of the last look at the table."""

    active: bool = False  # this relay publishes; the others of the cluster stand by
    problem: str = ""  # why nothing can be published now, without a password
    waiting: int = 0  # rows that wait, counted up to COUNTED_AT_MOST
    oldest_seconds: float = 0.0  # how long ago the row that comes next was inserted
    set_aside: int = 0  # rows that can never be published as they are, counted likewise
    published: int = 0  # counter

    archive: bool = False  # whether there is one
    archive_active: bool = False  # this relay writes it; the others of the cluster stand by
    archive_problem: str = ""  # why nothing can be written now, without a password
    archive_waiting: int = 0  # channels with messages that are not written yet
    archive_oldest_seconds: float = 0.0  # how long ago the last message of the first of them was published
    archived: int = 0  # counter of messages that were written
    archive_lost: int = 0  # counter of messages that Redis had forgotten before they were written

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a record. Fields that only newer relays know are ignored.

        Raises ValueError if the text is no such record.
        """
        raw = decode(text)
        if not isinstance(raw, dict):
            raise ValueError("not the status of a relay")  # noqa: TRY004 - as for all other texts that are none
        known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        check_types(cls, known)
        return cls(**known)


COUNTED_AT_MOST = 100_000
"""Rows are counted up to this number, so that a long queue does not make the count expensive."""


EXAMINE = "--examine"
"""The argument with which a relay examines its PostgreSQL, prints a JSON list of Examined, and ends."""


@dataclass(frozen=True)
class Examined:
    """The finding of an examination about one thing, for `wsd doctor`. `grade` is ok, warning or failure."""

    grade: str
    check: str
    found: str
    remedy: str = ""
