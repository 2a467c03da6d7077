"""`wsd config`, `wsd init` and `wsd render-nginx`: settings and the files that are made from them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from wsd.supervisor.cli.options import ConfigOption, StateDirOption, WorkersOption, load_settings, load_with_state_dir
from wsd.supervisor.errors import CommandError, ConfigError
from wsd.supervisor.machine.terminal import say, show_file


def config(config: ConfigOption = None, state_dir: StateDirOption = None) -> None:
    """Print the settings in effect and where each comes from.

    Example: WSD_PORT=8080 wsd config
    """
    from wsd.supervisor.config.display import describe  # noqa: PLC0415

    for line in describe(load_with_state_dir(config, state_dir)):
        say(line)


def init(
    systemd: Annotated[
        bool, typer.Option("--systemd", help="Also write systemd units: wsd.service, wsd.socket")
    ] = False,
    docker: Annotated[
        bool,
        typer.Option("--docker", help="Also write an image of your application and a Compose stack; keep wsd.toml"),
    ] = False,
    app: Annotated[
        str | None, typer.Option(metavar="MODULE:ATTR", help="With --docker: your ASGI app (default: as in wsd.toml)")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Also write chat.py, an example application")] = False,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="Write no file: print the SQL for an outbox and an archive in PostgreSQL")
    ] = False,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --postgres: the table (default: wsd_outbox)")
    ] = None,
    archive_table: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --postgres: the archive (default: wsd_archive)")
    ] = None,
) -> None:
    """Write a wsd.toml with every setting and its default.

    Writes into the current directory, and never overwrites a file.

    Example: wsd init --example && wsd start chat:app
    Example: wsd init --docker --app chat:app
    Example: wsd init --postgres | psql postgresql://owner@localhost/shop
    """
    from wsd.supervisor import new_files  # noqa: PLC0415
    from wsd.supervisor.config.loading import current_directory  # noqa: PLC0415
    from wsd.supervisor.config.settings import PostgresConfig  # noqa: PLC0415

    for name, value in (("--table", table), ("--archive-table", archive_table)):
        if value is not None and not postgres:
            raise ConfigError(f"{name} needs --postgres")
    if app is not None and not docker:
        raise ConfigError("--app needs --docker")
    if postgres:
        if systemd or example or docker:
            raise ConfigError("--postgres writes no file: use it without --systemd, --docker and --example")
        default = PostgresConfig()
        outbox = new_files.outbox_sql(default.table if table is None else table)
        archive = new_files.archive_sql(default.archive_table if archive_table is None else archive_table)
        show_file(outbox + archive)
        return
    if docker and app is None and example:
        app = "chat:app"
    image = load_settings(None, {"--app": (("cluster", "app"), app)}).config if docker else None
    directory = current_directory(os.environ)
    for path in new_files.write(directory, systemd=systemd, example=example, image=image, app=app or ""):
        say(f"wrote {path}")


def render_nginx(
    config: ConfigOption = None,
    workers: WorkersOption = None,
    state_dir: StateDirOption = None,
    output: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write to this file (default: standard output)")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Test the configuration with nginx -t")] = False,
) -> None:
    """Print the nginx configuration that `wsd start` uses.

    No cluster needs to be running.

    Example: wsd render-nginx --workers 8 --check --output /etc/nginx/nginx.conf
    """
    from wsd.supervisor.services import nginx_config  # noqa: PLC0415

    loaded = load_settings(
        config,
        {
            "--workers": (("cluster", "workers"), workers),
            "--state-dir": (("cluster", "state_dir"), state_dir),
        },
    )
    text = nginx_config.render_for(loaded, with_check=check)
    if output is None:
        show_file(text)
        return
    try:
        Path(output).write_text(text, "utf-8")
    except OSError as exc:
        raise CommandError(f"cannot write {output}: {exc.strerror}") from None
