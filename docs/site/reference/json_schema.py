"""Describe JSON Schemas in Markdown: a type in a few words, and the fields of an object as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from docs.site.reference.markdown import code, prose, table

Schema = Mapping[str, Any]


def type_of(schema: Schema) -> str:
    """Return the values of a schema in words, with links to the schemas that it names: `list of [Member](#member)`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(code(f'"{value}"' if isinstance(value, str) else str(value)) for value in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"list of {type_of(schema.get('items', {}))}"
        case "object":
            inner = schema.get("additionalProperties")
            return f"object of {type_of(inner)} by name" if isinstance(inner, Mapping) else "object"
        case None:
            return "any JSON"
        case kind:
            return f"{kind}{_limits(schema)}"


def _limits(schema: Schema) -> str:
    """Return the limits of a number, or of the length of a text."""
    is_text = schema.get("type") == "string"
    noun = " characters" if is_text else ""
    shortest = schema.get("minLength" if is_text else "minimum")
    longest = schema.get("maxLength" if is_text else "maximum")
    if longest is None and "exclusiveMinimum" in schema:
        return f" above {schema['exclusiveMinimum']}"
    if longest is not None and longest > 2**52:  # as far as JSON numbers are exact: no limit that matters
        longest = None
    if shortest is not None and longest is not None:
        return f", {shortest} to {longest}{noun}"
    if longest is not None:
        return f", at most {longest}{noun}"
    return f", at least {shortest}{noun}" if shortest else ""


def fields(schema: Schema) -> str:
    """Return the fields of an object as a table."""
    required = schema.get("required", ())
    rows = [
        [code(name), type_of(field), _presence(name in required, field), prose(field.get("description", ""))]
        for name, field in schema.get("properties", {}).items()
    ]
    return table(["field", "value", "default", "meaning"], rows)


def _presence(required: bool, field: Schema) -> str:
    if required:
        return "required"
    default = field.get("default")
    if default in (None, "", {}, []):
        return "absent"
    return code(str(default).lower() if isinstance(default, bool) else str(default))


def schemas(components: Mapping[str, Schema]) -> Iterator[str]:
    """Yield the parts of a chapter with all schemas, in the order of their names."""
    for name in sorted(components):
        schema = components[name]
        yield f"### {name} {{ #{anchor(name)} }}"
        yield described(schema)
        yield fields(schema) if "properties" in schema else f"Values: {type_of(schema)}"


def described(schema: Schema) -> str:
    """Return the description of a schema as paragraphs."""
    paragraphs = schema.get("description", "").split("\n\n")
    return "\n\n".join(prose(" ".join(paragraph.split())) for paragraph in paragraphs)


def anchor(name: str) -> str:
    """Return the anchor of the schema with this name."""
    return name.lower()
