"""A name for an object of an application that all workers agree on: the variable that holds the object.

Its line in the code would be no such name: while a new version is rolled out, two versions run side by side.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any


class Origin:
    """The place where an object was made, noted while it is being made."""

    def __init__(self, made: object) -> None:
        """`made`: the object whose `__init__` calls this."""
        frame = _outside(sys._getframe(1), made)
        module = frame
        while module.f_code.co_name != "<module>" and module.f_back is not None:
            module = module.f_back
        self.module = _module_name(frame.f_globals)
        self.line = frame.f_lineno
        # The name of a comprehension or a lambda says no more than that of its module.
        qualname = frame.f_code.co_qualname
        self.place = self.module if qualname.startswith("<") else f"{self.module}:{qualname}"
        # A function of a library may make the object for a variable of the module that is being imported.
        self._scopes = [frame.f_globals, module.f_globals]

    def variable(self, made: object) -> str | None:
        """Return the global variable that holds the object now, as `module:variable`; None if there is none."""
        for scope in self._scopes:
            for name, value in list(scope.items()):
                if value is made:
                    return f"{_module_name(scope)}:{name}"
        return None


def _outside(frame: FrameType, made: object) -> FrameType:
    """Return the innermost frame that is not an `__init__` of the object. Subclasses have their own."""
    while frame.f_code.co_name == "__init__" and frame.f_back is not None:
        arguments = frame.f_code.co_varnames[:1]
        if not arguments or frame.f_locals.get(arguments[0]) is not made:
            break
        frame = frame.f_back
    return frame


def _module_name(scope: Mapping[str, Any]) -> str:
    """Return the name of a module; for the main program, the name by which others would import it."""
    name = str(scope.get("__name__", ""))
    if name != "__main__":
        return name
    spec = scope.get("__spec__")
    return spec.name if spec is not None else Path(scope.get("__file__") or name).stem
