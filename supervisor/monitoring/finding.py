"""What `wsd doctor` says of each thing that it looked at."""

from enum import StrEnum

from msgspec import Struct


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(Struct, frozen=True):
    """`remedy` is empty where nothing is to be done."""

    check: str
    grade: Grade
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, Grade.OK, found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Grade.WARNING, found, remedy)


def failure(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, Grade.FAILURE, found, remedy)
