"""Rules for user ids and user names. No I/O.

Users see each other's names. So no name may be invisible, differ from another name only by invisible characters, or
reverse the text around it. People must still be able to write their names: Persian and the scripts of India need
joiners between letters, and emoji are made of several characters with joiners, selectors and tags between them.
"""

import re
import unicodedata

MAX_NAME_LENGTH = 128
"""The maximum length of a user id or user name, in characters."""

ZWNJ, ZWJ = "\u200c", "\u200d"

REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Controls, formats (bidirectional overrides among them), lone surrogates, private use, separators of lines."""

HIDDEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U00016fe4"
    "\U000e0000-\U000e0fff\ufdd0-\ufdef]"
)
"""Fillers, selectors and noncharacters, which are invisible although their category does not say so.

Unicode's Default_Ignorable_Code_Point, as far as it is not in REFUSED_CATEGORIES.
"""

BLANK = frozenset("\u2800\U0001d159")
"""Symbols that look like a space: the braille pattern without dots, the null notehead."""

_JOINING = (
    "\u0600-\u0dff\u1000-\u109f\u1780-\u18af\u1a20-\u1b7f\ua840-\ua87f\ua8e0-\uaadf\ufb50-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"
    "\U00010d00-\U00010d3f\U00010f30-\U00011fff\U0001e900-\U0001e95f"
)
"""Scripts whose letters change beside others: Arabic, Syriac, those of India and South-East Asia, Mongolian."""

_EMOJI = "\u203c\u2049\u2122\u2139\u2190-\u27ff\u2900-\u2bff\u3030\u303d\u3297\u3299\u00a9\u00ae\U0001f000-\U0001faff"
_IDEOGRAPH = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_MONGOLIAN = "\u1820-\u18aa"

PERMITTED = re.compile(
    # A joiner between two letters of a script that needs it.
    rf"(?<=[{_JOINING}])[{ZWNJ}{ZWJ}](?=[{_JOINING}])"
    # Several emoji that are one: families, professions, the rainbow flag.
    rf"|(?:(?<=[{_EMOJI}])|(?<=[{_EMOJI}]\ufe0f)){ZWJ}(?=[{_EMOJI}])"
    # Whether a symbol is shown as text or as emoji; keycaps.
    rf"|(?<=[{_EMOJI}])[\ufe0e\ufe0f]|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    # The shape of a Chinese character that a family writes itself with, and of a Mongolian letter.
    rf"|(?<=[{_IDEOGRAPH}])[\U000e0100-\U000e01ef]|(?<=[{_MONGOLIAN}])[\u180b-\u180f]"
    # The flags of England, Scotland and Wales: a black flag, "gbeng", "gbsct" or "gbwls" as tags, the end of tags.
    "|(?<=\U0001f3f4)\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f"
)
"""Invisible characters in the places where people need them."""


def name_problem(value: str) -> str | None:
    """Return why a user id or user name is refused, or None if it is accepted."""
    if not isinstance(value, str):  # from code that nobody may have type-checked
        return f"must be text, got {type(value).__name__}"  # type: ignore[unreachable]
    if not 1 <= len(value) <= MAX_NAME_LENGTH:
        return f"must have 1 to {MAX_NAME_LENGTH} characters, got {len(value)}"
    rest = value
    if not (value.isascii() and value.isprintable()):
        rest = PERMITTED.sub("", value)
        for character in rest:
            if character in (ZWNJ, ZWJ):
                return f"may contain U+{ord(character):04X} only between letters or emoji that it joins"
            if _is_refused(character):
                return f"must not contain U+{ord(character):04X}"
    if not any(map(_is_visible, rest)):
        return "must have a character that can be seen"
    if _is_space(value[0]) or _is_space(value[-1]):
        return "must not begin or end with a space"
    return None


def names_problem(user_id: str, username: str) -> str | None:
    """Return which of a client's two names is refused, and why, or None if both are accepted."""
    for field, value in (("user_id", user_id), ("username", username)):
        if problem := name_problem(value):
            return f"{field} {problem}"
    return None


def _is_refused(character: str) -> bool:
    return (
        unicodedata.category(character) in REFUSED_CATEGORIES
        or HIDDEN.match(character) is not None
        or ord(character) & 0xFFFE == 0xFFFE  # the last two of each plane are noncharacters
    )


def _is_visible(character: str) -> bool:
    """Return whether a character is visible by itself. Spaces and combining marks are not.

    A character that this version of Unicode does not know may be a newer emoji, and counts as visible.
    """
    return (unicodedata.category(character)[0] in "LNPS" and character not in BLANK) or (
        unicodedata.category(character) == "Cn"
    )


def _is_space(character: str) -> bool:
    return character.isspace() or character in BLANK
