"""Findings: the results of checks, as `wsd doctor` shows them."""

from enum import StrEnum

from msgspec import Struct


class Grade(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(Struct, frozen=True):
    """The result of one check: what was found, and what to do about it. `remedy` is empty for a Grade.OK."""

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
