"""Read and write records whose fields are environment variables."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any


def variable(name: str, default: Any, setting: str = "") -> Any:
    """Declare a field that is read from the environment variable `name`.

    `setting` names the key of wsd.toml whose value the supervisor passes on unchanged. Fields without one are computed.
    """
    return field(default=default, metadata={"env": name, "setting": setting})


def variable_names(record: Any) -> frozenset[str]:
    """Return the names of all variables of a record, or of its class."""
    return frozenset(f.metadata["env"] for f in fields(record))


def to_variables(record: Any) -> dict[str, str]:
    """Return the variables of a record. `values_in` reads the same values from them."""
    return {f.metadata["env"]: _to_text(getattr(record, f.name)) for f in fields(record)}


def values_in(environ: Mapping[str, str], record: type[Any]) -> dict[str, Any]:
    """Return the values of those fields of a class of records whose variables are set.

    Raises ValueError with the name of the variable and its value.
    """
    return {
        f.name: _from_text(f.metadata["env"], environ[f.metadata["env"]], type(f.default))
        for f in fields(record)
        if f.metadata["env"] in environ
    }


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _from_text(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.strip().lower() in ("1", "true", "yes", "on"):
            return True
        if text.strip().lower() in ("0", "false", "no", "off"):
            return False
        raise ValueError(f"{name} must be true or false, got {text!r}")
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None
