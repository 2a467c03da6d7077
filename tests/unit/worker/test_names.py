"""Names that users may have: the whole rule as a table."""

from typing import Any

import pytest

from wsd.worker.wire.names import name_problem

ZWNJ, ZWJ, VS16 = "\u200c", "\u200d", "\ufe0f"
ENGLAND = "\U0001f3f4" + "".join(chr(0xE0000 + ord(tag)) for tag in "gbeng") + "\U000e007f"

ACCEPTED = {
    "one letter": "a",
    "an apostrophe, a hyphen, a space": "Ann-Marie O'Neil",
    "a number": "42",
    "an address": "ann@example.com",
    "punctuation": "-_-",
    "the longest": "x" * 128,
    "Chinese": "名前",
    "an ideographic space": "山田　太郎",
    "an accent of its own": "e\u0301va",
    "Arabic": "محمد",
    "Persian": f"می{ZWNJ}خواهم",
    "Persian again": f"علی{ZWNJ}رضا",
    "Malayalam": f"ന്{ZWJ}ന",
    "Sinhala": f"ශ්{ZWJ}රී",
    "Hindi": f"क्{ZWNJ}ष",
    "Hindi joined": f"क्{ZWJ}ष",
    "an emoji": "🙂",
    "an emoji with a selector": f"❤{VS16}",
    "a skin tone": "👍🏽",
    "a family": f"👩{ZWJ}👩{ZWJ}👧{ZWJ}👦",
    "a profession with a skin tone": f"👩🏽{ZWJ}⚕{VS16}",
    "a heart on fire": f"❤{VS16}{ZWJ}🔥",
    "a rainbow flag": f"🏳{VS16}{ZWJ}🌈",
    "a head that nods": f"🙂{ZWJ}↕{VS16}",
    "a keycap": f"1{VS16}\u20e3",
    "a flag": "🇩🇪",
    "England": ENGLAND,
    "a newer emoji than Python knows": "\U0001fae9",
    "a family's own character": "葛\U000e0100",
    "Mongolian": "ᠮᠣᠩᠭᠣᠯ\u180b",
    "emoji and letters": f"Ann {ENGLAND} ❤{VS16}",
}

REFUSED = {
    "nothing": "",
    "too long": "x" * 129,
    "a line break": "a\nb",
    "a tab": "a\tb",
    "a NUL": "a\0b",
    "an escape": "a\x1b[2Jb",
    "a C1 control": "a\x9bb",
    "a right-to-left override": "a\u202eb",
    "an isolate": "a\u2066b",
    "a mark of direction": "a\u200eb",
    "an Arabic letter mark": "a\u061cb",
    "a zero-width space": "a\u200bb",
    "a word joiner": "a\u2060b",
    "a byte order mark": "\ufeffann",
    "a soft hyphen": "an\u00adn",
    "a line separator": "a\u2028b",
    "a lone surrogate": "\ud800",
    "a noncharacter": "a\ufdd0",
    "another noncharacter": "a\uffff",
    "the last noncharacter": "a\U0010ffff",
    "private use": "\ue000",
    "only a space": " ",
    "only spaces of all kinds": " \u00a0\u2003\u3000",
    "only a combining mark": "\u0301",
    "only a vowel sign": "\u093e",
    "only a Hangul filler": "\u3164",
    "only a halfwidth filler": "\uffa0",
    "only Jamo fillers": "\u115f\u1160",
    "only a braille blank": "\u2800",
    "only a null notehead": "\U0001d159",
    "only a selector": VS16,
    "only a joiner": ZWJ,
    "a filler that nobody sees": "ann\u3164",
    "a grapheme joiner that nobody sees": "an\u034fn",
    "a selector that nobody sees": f"ann{VS16}",
    "a far selector that nobody sees": "ann\U000e0100",
    "a tag that nobody sees": "ann\U000e0061",
    "tags of no flag": "\U0001f3f4\U000e0061\U000e0062\U000e007f",
    "tags without their flag": ENGLAND[1:],
    "tags without their end": ENGLAND[:-1],
    "a joiner between Latin letters": f"an{ZWJ}n",
    "a non-joiner between Latin letters": f"an{ZWNJ}n",
    "a joiner at the beginning": f"{ZWNJ}علی",
    "a joiner at the end": f"علی{ZWNJ}",
    "a joiner before a space": f"علی{ZWNJ} رضا",
    "two joiners": f"می{ZWNJ}{ZWNJ}خواهم",
    "two joiners of a kind each": f"ന്{ZWJ}{ZWNJ}ന",
    "an emoji that joins nothing": f"👩{ZWJ}",
    "an emoji that joins a letter": f"👩{ZWJ}a",
    "two joiners between emoji": f"👩{ZWJ}{ZWJ}👧",
    "two selectors": f"❤{VS16}{VS16}",
    "a space first": " ann",
    "a space last": "ann ",
    "a wide space last": "ann\u3000",
    "a braille blank last": "ann\u2800",
    "a number": 42,
    "bytes": b"ann",
    "none": None,
}


@pytest.mark.parametrize("name", ACCEPTED.values(), ids=ACCEPTED)
def test_names_as_people_write_them(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_names_that_hide_something_or_are_none(name: Any) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert problem.isascii(), "the reason shows nothing of what is refused"
    assert problem.isprintable()
