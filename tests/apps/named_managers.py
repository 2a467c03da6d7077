"""ConnectionManagers, made in every way that gives them a name. It runs beside a copy of library.py."""

from library import Named, make  # type: ignore[import-not-found]

from wsd import ConnectionManager

first = again = ConnectionManager()
made = make()
titled = Named("a title")
given = ConnectionManager("lobby")
held = {"one": ConnectionManager()}


late: ConnectionManager


class Room:
    manager = ConnectionManager()

    def __init__(self) -> None:
        self.own = ConnectionManager()


def create() -> ConnectionManager:
    global late  # noqa: PLW0603
    late = ConnectionManager()
    return ConnectionManager()


room, created = Room(), create()

if __name__ == "__main__":
    print(first.name, Room.manager.name)
