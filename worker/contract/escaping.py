"""Make text from others safe to print: terminals obey control characters, and some characters deceive readers."""

import json
import re
import unicodedata

MAX_MARKS = 4
"""The maximum number of combining marks on one character. No script needs more, and hundreds cover other lines."""

# Characters that `str.isprintable` accepts and that show nothing: fillers, blanks, and selectors, which can carry
# hidden text.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U00016fe4\U0001d159"
    "\U000e0100-\U000e01ef]"
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escape(text: str, keep: str = "") -> str:
    """Return the text with invisible characters escaped, like `\\x1b`, `\\u202e` and `\\U000e0041`.

    The characters that `repr` escapes are escaped (control, format, private and unassigned characters, surrogates, and
    separators other than the space), and so are blank characters and combining marks after the first MAX_MARKS in a
    row. Joiners are format characters, so two names that differ look different. Characters in `keep` stay.
    """
    if text.isascii() and text.isprintable():
        return text
    marks = MAX_MARKS  # a mark at the beginning would stand on the text that is printed before this one
    found = []
    for character in text:
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if character in keep:
            found.append(character)
        elif not character.isprintable() or marks > MAX_MARKS or _BLANK.match(character):
            found.append(_escaped(character))
        else:
            found.append(character)
    return "".join(found)


def _escaped(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that was not UTF-8 (PEP 383)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def to_json(value: object, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    """Return JSON in printable ASCII, which contains nothing that a terminal obeys."""
    return json.dumps(value, indent=indent, separators=separators).replace("\x7f", "\\u007f")
