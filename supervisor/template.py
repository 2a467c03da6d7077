"""Files from the templates of `wsd.templates`."""

import jinja2


def render(name: str, /, **values: object) -> str:
    """A template with its values; one that it needs and does not get is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wsd.templates", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - not HTML; values are validated by config
    )
    environment.filters["quoted"] = quoted
    return environment.get_template(name).render(**values)


def quoted(value: object) -> str:
    """A value as nginx reads it back, whatever is in it."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
