"""Render the templates of the package `wsd.templates`."""

import jinja2

from wsd.supervisor import quoting


def render(name: str, /, **values: object) -> str:
    """Return a template with its values filled in. A value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("wsd.templates", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=jinja2.select_autoescape(["html.j2"]),  # config validates the values of all others
    )
    environment.filters.update(quoted=quoting.nginx, unit_text=quoting.unit_text)
    return environment.get_template(name).render(**values)
