"""The translation of what channels send into an application's own protocol, where it is written to a client.

Clients of an application's own protocol speak the hub's dialect, as far as channels, batches and backlogs know. So
messages stay in the hub's protocol until they are written. A message, or a batch, is translated once for all clients
with the same function.
"""

from wsd.worker.delivery.batch import Batch, Item, Message, OwnMessage, Translate, Translation
from wsd.worker.delivery.send_queue import Writer
from wsd.worker.wire.position import Position


class Translator:
    """The translation for one client. Notes the position that the client reaches in each channel."""

    __slots__ = ("_translate", "positions")

    def __init__(self, translate: Translate) -> None:
        """`translate` must not raise."""
        self._translate = translate
        self.positions: dict[str, Position] = {}

    def __call__(self, item: Item) -> Item | None:
        """Translate an item that is about to be written. Return None if nothing is to be written."""
        if type(item) is OwnMessage:
            return item
        translation = _translation(item, self._translate)
        if translation.position is not None:
            self.positions[translation.channel] = translation.position
        return translation.item


class TranslatingWriter:
    """A writer that translates, around the writer to a client's socket."""

    __slots__ = ("_translator", "_writer")

    def __init__(self, writer: Writer, translator: Translator) -> None:
        self._writer = writer
        self._translator = translator

    def write(self, items: list[Item], sent: int = 0) -> bool:
        """See `Writer.write`. `sent` is 0, since nothing is written past this writer."""
        assert not sent
        translated = [item for item in map(self._translator, items) if item is not None]
        return self._writer.write(translated) if translated else True

    def end(self, code: int, reason: str) -> None:
        """See `Writer.end`."""
        self._writer.end(code, reason)


def _translation(item: Item, translate: Translate) -> Translation:
    made = item.translations
    if made is None:
        made = item.translations = {}
    translation = made.get(translate)
    if translation is None:
        translation = made[translate] = (
            _translate_batch(item, translate) if isinstance(item, Batch) else translate(item)
        )
    return translation


def _translate_batch(batch: Batch, translate: Translate) -> Translation:
    batch.open = False  # a message that is added from now on would not be in the translation
    translations = [_translation(message, translate) for message in batch.messages]
    position = next((one.position for one in reversed(translations) if one.position is not None), None)
    items = [one.item for one in translations if isinstance(one.item, Message)]
    return Translation(Batch(batch.channel, batch.policy, items) if items else None, batch.channel, position)
