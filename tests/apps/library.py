"""A library of the application in named_managers.py, which makes managers for it."""

from wsd import ConnectionManager


def make() -> ConnectionManager:
    return ConnectionManager()


class Named(ConnectionManager):
    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
