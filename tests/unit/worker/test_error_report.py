"""Errors of an application, as `wsd dev` shows them."""

import asyncio
import json

from wsd.worker.dev.error_report import ErrorReport, Repetitions, code_in, report_of


def is_own(filename: str) -> bool:
    return filename == __file__


def fail(text: str) -> None:
    json.loads(text)


def caught(text: str) -> Exception:
    try:
        fail(text)
    except Exception as exc:  # noqa: BLE001 - whatever json raises
        return exc
    raise AssertionError


def test_frames_of_libraries_are_left_out() -> None:
    report = report_of(caught("{"), is_own)
    assert "json/decoder.py" not in report.traceback
    assert "in fail" in report.traceback
    assert report.title.startswith("JSONDecodeError: Expecting property name")
    assert report.title.endswith("(test_error_report.py:14)")


def test_an_error_outside_of_the_application_keeps_its_frames() -> None:
    assert "json/decoder.py" in report_of(caught("{"), lambda _: False).traceback


def test_causes_and_groups_are_cut_as_well() -> None:
    try:
        try:
            fail("{")
        except ValueError as exc:
            raise ExceptionGroup("two", [exc, caught("[")]) from exc
    except ExceptionGroup as exc:
        text = report_of(exc, is_own).traceback
    assert text.count("in fail") >= 3
    assert "json/decoder.py" not in text


def test_errors_of_one_place_are_the_same_whatever_their_text() -> None:
    assert report_of(caught("{"), is_own).place == report_of(caught("{'other': 1}"), is_own).place
    assert report_of(caught("{"), is_own).place != report_of(KeyError("x"), is_own).place


def test_repetitions_are_told_ever_more_rarely() -> None:
    repetitions, report = Repetitions(), ErrorReport("", "", ("KeyError",))
    told = [repetitions.count(report) for _ in range(1000)]
    assert [count for count in told if count] == [1, 2, 10, 100, 1000]
    assert repetitions.count(ErrorReport("", "", ("ValueError",))) == 1


def test_a_library_below_the_directory_is_not_the_applications_code(tmp_path: object) -> None:
    own = code_in([str(tmp_path)])
    assert own(f"{tmp_path}/chat.py")
    assert not own(f"{tmp_path}/env/lib/python3/site-packages/chat.py")
    assert not own(asyncio.__file__)
