"""Define one layer of the configuration: values as somebody wrote them, each with its source."""

from dataclasses import dataclass
from typing import Any

from wsd.supervisor.config.keys import Key


@dataclass(frozen=True)
class Setting:
    """A value as somebody wrote it, and where: `--port`, `WSD_PORT`, `wsd.toml line 12`.

    `is_text`: the place holds only text, so a number or a truth value is written as text there.
    """

    value: Any
    source: str
    is_text: bool = False


Layer = dict[Key, Setting]
