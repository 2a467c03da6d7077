"""The files whose changes count for `wsd dev`: code in Python, and wsd.toml. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

LIBRARIES = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
"""Directories that hold no code of the application. Neither do directories whose names begin with a dot."""


@dataclass(frozen=True)
class SourceFiles:
    """The files that are watched: the code below some directories, and the file of settings."""

    directories: tuple[Path, ...]
    settings_file: Path

    @property
    def watched(self) -> tuple[Path, ...]:
        """The directories whose changes must be known."""
        within = any(self.settings_file.is_relative_to(directory) for directory in self.directories)
        return self.directories if within else (*self.directories, self.settings_file.parent)

    def counts(self, path: Path) -> bool:
        """Tell whether a change of a file counts."""
        if path == self.settings_file:
            return True
        return path.suffix == ".py" and any(
            _is_own(path.relative_to(directory).parts)
            for directory in self.directories
            if path.is_relative_to(directory)
        )


def _is_own(parts: Collection[str]) -> bool:
    return not any(part.startswith(".") or part in LIBRARIES for part in parts)


def summary(paths: Iterable[Path]) -> str:
    """Return which files have changed, in a few words."""
    names = sorted({path.name for path in paths})
    if len(names) > 2:
        return f"{names[0]} and {len(names) - 1} other files changed"
    return f"{' and '.join(names)} changed"
