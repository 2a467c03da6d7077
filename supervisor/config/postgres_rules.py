"""Check the URL of a PostgreSQL, and the name of a table in it. Pure."""

import re
from urllib.parse import urlsplit

MAX_IDENTIFIER_LENGTH = 48
"""The most characters of the name of a table or schema. PostgreSQL cuts longer names than 63, and ours get endings."""


def postgres_url_problem(url: str) -> str | None:
    """Say what is wrong with the URL of a PostgreSQL, or return None.

    The text repeats no part of the URL, since each part may belong to a password.
    """
    if not re.match(r"postgres(ql)?://", url):
        return "must begin with postgresql:// or postgres://"
    if not re.fullmatch(r"[!-~]+", url):
        return "must be visible characters of ASCII: write others as %C3%A4 and the like"
    address, _, query = url.partition("://")[2].partition("?")
    if "@" in re.sub(r"^[^/#]*", "", address):
        return "has a password with / or #: write them as %2F and %23"
    if "@" in query and "=" not in query:
        return "has a password with ?: write it as %3F"
    hosts = address.partition("/")[0].rpartition("@")[2]
    if not all(re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:[0-9]{1,5})?", host) for host in hosts.split(",")):
        return "has no number as its port, or a password with characters that must be written as %40, %2F and the like"
    try:
        path = urlsplit(url.partition("?")[0]).path
    except ValueError:
        return "is malformed"
    if path.strip("/") == "" and "dbname=" not in query:
        return "must name a database, like postgresql://user:password@host:5432/database"
    return None


def table_problem(table: str) -> str | None:
    """Say why a text is no name of a table, with or without its schema, or return None.

    Names in capitals would need quotes wherever SQL names the table.
    """
    identifier = rf"[a-z_][a-z0-9_]{{0,{MAX_IDENTIFIER_LENGTH - 1}}}"
    if re.fullmatch(rf"{identifier}(\.{identifier})?", table):
        return None
    return (
        "must be a name like wsd_outbox or schema.wsd_outbox: "
        f"a-z, 0-9 and _, not a digit first, {MAX_IDENTIFIER_LENGTH} characters each at most"
    )
