"""Make text safe to print: nothing that is read from others reaches a terminal unescaped."""

import json
import re
import unicodedata

MAX_MARKS = 4
"""Combining marks on one character; no script needs more, and hundreds of them cover the lines around."""

# Characters that count as printable and show nothing: fillers, blanks, and selectors that can carry hidden text.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U00016fe4\U0001d159"
    "\U000e0100-\U000e01ef]"
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def escape(text: str, keep: str = "") -> str:
    """Return the text with every character visible that is not: `\\x1b`, `\\u202e`, `\\U000e0041`.

    Escaped are what `repr` escapes (control, format, private and unassigned characters, surrogates, and separators
    other than the space), blank characters, and more than MAX_MARKS combining marks in a row. Joiners are format
    characters, so two names that differ look different. `keep` holds characters that are not escaped.
    """
    if text.isascii() and text.isprintable():
        return text
    marks = MAX_MARKS  # a mark at the beginning would stand on what is printed before the text
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
    """Return JSON in printable ASCII: a terminal carries out nothing that is in it."""
    return json.dumps(value, indent=indent, separators=separators).replace("\x7f", "\\u007f")
