"""The patterns of channel names in the settings, and the values that say who may do something there. Pure."""

import re
from typing import Literal

Allowed = Literal["anyone", "authenticated", "token", "server", "nobody"]
"""Who may do something in a channel. docs/security.md has a table of what each value means for each action."""

USER_ID = "{user_id}"
"""The part of a pattern that stands for the id of the user to whom the channel belongs."""


def pattern_problem(text: str) -> str | None:
    """Say why a text is no pattern of channel names, or return None."""
    before, is_owned, after = text.partition(USER_ID)
    if not re.fullmatch(r"[A-Za-z0-9_.:@/#*-]*", before + after.replace(USER_ID, "")) or not 1 <= len(text) <= 255:
        return f'may hold only A-Z a-z 0-9 _ . : @ / # -, "*" for any of them, and "{USER_ID}"'
    if USER_ID in after:
        return f'may have "{USER_ID}" only once'
    if is_owned and "*" in before:
        return f'may have "*" only after "{USER_ID}": it must be certain which user a channel belongs to'
    if is_owned and after.startswith("*"):
        return f'needs another character between "{USER_ID}" and "*": it must be certain where the id ends'
    return None


class ChannelPattern:
    """A pattern of channel names. `*` and `{user_id}` stand for any text, and all other characters for themselves."""

    def __init__(self, text: str) -> None:
        """Compile a pattern. Raises ValueError for a text that is none."""
        if problem := pattern_problem(text):
            raise ValueError(f'channels."{text}" {problem}')
        self.text = text
        parts = text.replace(USER_ID, "*").split("*")
        self._expression = re.compile(_expression(parts), re.DOTALL)
        before, is_owned, after = text.partition(USER_ID)
        self.is_owned = bool(is_owned)
        self.precision = (len("".join(parts)), self.is_owned)
        """What compares patterns: of all that match a name, the one with the greatest precision applies."""
        self._before = len(before)
        self._after, star, _ = after.partition("*")
        self._is_end = not star  # whether the channel's name ends with `_after`

    def matches(self, channel: str) -> bool:
        return self._expression.fullmatch(channel) is not None

    def owner(self, channel: str) -> str | None:
        """Return the id of the user to whom a channel belongs that the pattern matches. None: it belongs to nobody.

        The id ends where the text after `{user_id}` is found first, and never later. So a channel belongs to one user
        alone: with `user:{user_id}:*`, the channel `user:a:b:c` is that of `a`, and the user `a:b` has no channel.
        """
        if not self.is_owned:
            return None
        rest = channel[self._before :]
        return rest[: len(rest) - len(self._after)] if self._is_end else rest.partition(self._after)[0]


def _expression(parts: list[str]) -> str:
    """Return a regular expression for texts with these parts in their order, and any text between two of them.

    Each part but the last is found where it comes first, and is not looked for again. Without these atomic groups a
    name of 255 characters that a client has chosen for it would take minutes to be compared with five `*`.
    """
    first, *others = map(re.escape, parts)
    if not others:
        return first
    return first + "".join(f"(?>.*?{part})" for part in others[:-1]) + ".*" + others[-1]
