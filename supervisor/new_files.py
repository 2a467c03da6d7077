"""The files that `wsd init` writes: settings, systemd units, an image, and an example application."""

import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from wsd.supervisor import docker_files, quoting, template
from wsd.supervisor.config.postgres_rules import table_problem
from wsd.supervisor.config.settings import ClusterConfig, Config
from wsd.supervisor.config.wording import brief
from wsd.supervisor.control.stopping import STOP_MARGIN_SECONDS
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.services.worker import DRAIN_MARGIN_SECONDS
from wsd.templates import template_text

SAFE_SET = """
# Browsers listen, and only your backend publishes: take the "#" away from all lines below that begin with "#a" or "#[".
# This also ends broadcasts and direct messages of clients. Your backend publishes in your application, or with
# security.api_key. In the channels user:ann:.. only the user ann listens, once clients are authenticated.
#allow_publish = "server"
#allow_presence = "server"

#[channels."user:{user_id}:*"]
#allow_subscribe = "authenticated"
#allow_publish = "server"
#allow_history = "authenticated"
#allow_presence = "server"
"""
"""Rules of channels that suit most, at the end of a new wsd.toml, in its section [channels."*"]."""


def settings() -> str:
    """Return a wsd.toml in which every setting is commented out, with its default and an explanation."""
    return re.sub(r"^(?=\w+ = )", "# ", template_text("wsd.toml"), flags=re.MULTILINE) + SAFE_SET


def service(directory: Path) -> str:
    """Return a systemd unit for a cluster in this directory, run by the current user."""
    return template.render(
        "wsd.service.j2",
        name=_unit_name(directory),
        directory=directory,
        working_directory=quoting.unit_directory(directory),
        environment=quoting.unit_word(f"PWD={directory}"),
        start=quoting.unit_command([*command(), "start"], directory),
        reload=quoting.unit_command([*command(), "reload"], directory),
        user=_own_name(),
        state_dir=quoting.unit_paths(directory / ".wsd"),
        stop_seconds=stop_seconds(ClusterConfig()),
    )


def stop_seconds(cluster: ClusterConfig) -> int:
    """Return the longest time that a cluster takes to stop."""
    return int(cluster.drain_seconds + DRAIN_MARGIN_SECONDS + STOP_MARGIN_SECONDS)


def public_socket(directory: Path) -> str:
    """Return a systemd unit that holds the public port of the cluster."""
    cluster = ClusterConfig()
    return template.render(
        "wsd.socket.j2", name=_unit_name(directory), directory=directory, address=f"{cluster.host}:{cluster.port}"
    )


def _own_name() -> str:
    """Return the name of the current user, or the user id if /etc/passwd has no entry for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _unit_name(directory: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", directory.name)[:100].lstrip(".-") or "wsd"


def application(path: Path) -> str:
    """Return an example application, for the file `path`."""
    return template.render("app.py.j2", module=path.stem)


def outbox_sql(table: str) -> str:
    """Return the SQL that makes an outbox, for psql. `table` may have a schema before it.

    Raises ConfigError for a name that is none.
    """
    return _table_sql("outbox.sql.j2", "--table", table, function="_notify")


def archive_sql(table: str) -> str:
    """Return the SQL that makes the tables of an archive, for psql, to be run after `outbox_sql`.

    Raises ConfigError for a name that is none.
    """
    return _table_sql("archive.sql.j2", "--archive-table", table, quoted_epochs="_epochs")


def _table_sql(template_name: str, option: str, table: str, **companions: str) -> str:
    """Render SQL about a table. `companions` are what else has the name of the table, with the endings of their names.

    Raises ConfigError, which names the option, for a name that is none.
    """
    if (problem := table_problem(table)) is not None:
        raise ConfigError(f"{option} {problem}, got {brief(table)}")
    schema, _, name = table.rpartition(".")
    place = f'"{schema}".' if schema else ""
    quoted = {what: f'{place}"{name}{ending}"' for what, ending in {"quoted": "", **companions}.items()}
    return template.render(template_name, table=table, schema=schema, name=name, **quoted)


def docker(directory: Path, config: Config, app: str) -> dict[str, str]:
    """Return the files for an image of the application in this directory, and a Compose stack around it.

    `app` is the application to run; "" leaves it to the wsd.toml in the image.
    """
    return docker_files.files(
        outbox_sql(config.postgres.table) + archive_sql(config.postgres.archive_table),
        name=docker_files.image_name(directory),
        app=app,
        requirements=docker_files.find_requirements(directory),
        stop_seconds=stop_seconds(config.cluster),
    )


def command() -> list[str]:
    """Return the command that runs this installation of wsd, independent of PATH."""
    beside = Path(sys.executable).parent / "wsd"
    found = str(beside) if beside.exists() else shutil.which("wsd")
    return [found] if found else [sys.executable, "-P", "-m", "wsd.supervisor"]


def write(
    directory: Path, *, systemd: bool, example: bool, image: Config | None = None, app: str = ""
) -> Iterator[Path]:
    """Write the files and yield the path of each.

    `image` has the settings of an application that is put into an image, whose wsd.toml is kept where it has one.

    Raises CommandError, before anything is written, if one of them already exists.
    """
    texts = {directory / "wsd.toml": settings()}
    if image is not None:
        if (directory / "wsd.toml").exists():
            texts.clear()
        texts |= {directory / name: text for name, text in docker(directory, image, app).items()}
    if systemd:
        texts[directory / "wsd.service"] = service(directory)
        texts[directory / "wsd.socket"] = public_socket(directory)
    if example:
        path = directory / "chat.py"
        texts[path] = application(path)
    for path in texts:
        if path.exists():
            raise CommandError(f"{path} already exists; move it away, or run this in another directory")
    for path, text in texts.items():
        try:
            path.write_text(text, "utf-8")
            if systemd:
                (directory / ".wsd").mkdir(mode=0o700, exist_ok=True)  # a path in ReadWritePaths must exist
        except OSError as exc:
            raise CommandError(f"cannot write {path}: {exc.strerror}") from None
        yield path
