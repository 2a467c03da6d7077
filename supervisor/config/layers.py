"""Define a layer of the configuration: the values that one place gives to settings, such as wsd.toml."""

from dataclasses import dataclass
from typing import Any

from wsd.supervisor.config.keys import Key


@dataclass(frozen=True)
class Setting:
    """A value as it was written, before its type is checked.

    `source` names the place for error messages: `--port`, `WSD_PORT`, `wsd.toml line 12`. `is_text` is true for places
    that hold only text, such as the environment: numbers, lists and truth values are read from the text then.
    """

    value: Any
    source: str
    is_text: bool = False


Layer = dict[Key, Setting]
