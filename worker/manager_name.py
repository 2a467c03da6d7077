"""The names of ConnectionManagers. Managers with the same name, on whatever worker, share their clients."""

import itertools
import weakref

from wsd.worker.errors import WorkerError
from wsd.worker.origin import Origin
from wsd.worker.worker import Worker

_names: "weakref.WeakSet[ManagerName]" = weakref.WeakSet()
_claims: "weakref.WeakKeyDictionary[Worker, dict[str, weakref.ref[ManagerName]]]" = weakref.WeakKeyDictionary()
"""The manager that has the name of a place in the code, by worker and name."""


class AmbiguousNameError(WorkerError, ValueError):
    """Two ConnectionManagers cannot be told apart: neither has a name, nor a variable of its own."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} makes more than one ConnectionManager: assign each to a variable of its module, or name each, "
            'as in ConnectionManager("lobby"), in the same way on all workers; a manager for each room is one manager '
            'with rooms, as in manager.connect(websocket, "lobby") and manager.broadcast(message, "lobby")'
        )


class ManagerName:
    """The name of one ConnectionManager.

    A name that nobody gave is found when it is first used: it is that of the variable that holds the manager, or else
    that of the place in the code that made it.
    """

    def __init__(self, manager: object, origin: Origin | None, given: str) -> None:
        """`origin`: where the manager was made. It is not needed for a name that was `given`."""
        self._manager = weakref.ref(manager)
        self._origin = origin
        self._text = given
        self._is_place = False  # whether it is only the name of a place in the code
        _names.add(self)

    def assigned(self, owner: type, attribute: str) -> None:
        """Take the name of the class attribute that holds the manager, unless the manager has a name."""
        if self._origin is not None and not self._text:
            module = self._origin.module if owner.__module__ == "__main__" else owner.__module__
            self._text = f"{module}:{owner.__qualname__}.{attribute}"

    def __str__(self) -> str:
        manager = self._manager()
        if not self._text and self._origin is not None and manager is not None:
            variable = self._origin.variable(manager)
            self._text = variable or self._origin.place
            self._is_place = variable is None
        return self._text

    def claim(self, worker: Worker) -> str:
        """Return the name, for use on a worker.

        Raises AmbiguousNameError if another manager that was made at the same place in the code has it there.
        """
        name = str(self)
        if self._is_place:
            holder = _claims.setdefault(worker, {}).setdefault(name, weakref.ref(self))
            if holder() is not self:
                raise AmbiguousNameError(name)
        return name

    def is_ambiguous(self, other: "ManagerName") -> bool:
        """Tell whether two managers can never be told apart.

        Two that one function made in two calls are no such case: the function may be an application factory that tests
        call. Only one of the two may then be used.
        """
        one, another = self._origin, other._origin
        if str(self) != str(other) or not (self._is_place and other._is_place) or one is None or another is None:
            return False
        return one.line != another.line or ":" not in one.place


def check_names() -> None:
    """Check the names of all managers of the application.

    Raises AmbiguousNameError if two of them can never be told apart.
    """
    for one, other in itertools.combinations(list(_names), 2):
        if one.is_ambiguous(other):
            raise AmbiguousNameError(str(one))
