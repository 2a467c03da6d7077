"""URLs of PostgreSQL and names of tables that are refused, without a part of a password in the words."""

import importlib.util
from pathlib import Path

import pytest

from tests.support.cluster import clean_env, wsd
from wsd.supervisor.config.postgres_rules import postgres_url_problem, table_problem
from wsd.supervisor.config.settings import Config, PostgresConfig
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.services.relay import check_asyncpg


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/shop",
        "postgres://user:p%40ss@db.example.com:5432/shop?sslmode=require",
        "postgresql://user@[::1]:5432/shop",
        "postgresql://one:5432,two:5432/shop?target_session_attrs=read-write",
        "postgresql:///shop?host=/run/postgresql",
        "postgresql://user:password@localhost?dbname=shop",
    ],
)
def test_urls_of_postgresql(url: str) -> None:
    assert postgres_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://localhost/0", "must begin with postgresql:// or postgres://"),
        ("postgresql+asyncpg://localhost/shop", "must begin with postgresql:// or postgres://"),
        ("localhost/shop", "must begin with postgresql:// or postgres://"),
        ("postgresql://localhost", "must name a database, like postgresql://user:password@host:5432/database"),
        ("postgresql://localhost/", "must name a database, like postgresql://user:password@host:5432/database"),
        ("postgresql://u:a/b@localhost/shop", "has a password with / or #: write them as %2F and %23"),
        ("postgresql://u:a?b@localhost/shop", "has a password with ?: write it as %3F"),
        ("postgresql://localhost:port/shop", "has no number as its port, or a password with characters"),
        ("postgresql://local host/shop", "must be visible characters of ASCII"),
    ],
)
def test_urls_that_are_refused(url: str, problem: str) -> None:
    assert (postgres_url_problem(url) or "").startswith(problem)


@pytest.mark.parametrize("table", ["wsd_outbox", "a", "_x.y2", "a" * 48])
def test_names_of_tables(table: str) -> None:
    assert table_problem(table) is None


@pytest.mark.parametrize("table", ["", "Outbox", "a.b.c", "2a", 'a"; DROP', "a b", ".a", "a.", "a" * 49, "\u00e4"])
def test_names_of_tables_that_are_refused(table: str) -> None:
    assert table_problem(table) is not None


def test_wsd_start_says_what_is_wrong_and_shows_no_password(tmp_path: Path) -> None:
    url = "postgresql://wsd_relay:secret@localhost:port/shop"
    result = wsd("start", "--check", cwd=tmp_path, env=clean_env(WSD_POSTGRES_URL=url))
    assert result.returncode == 2
    assert result.stderr.startswith("wsd: WSD_POSTGRES_URL: postgres.url has no number as its port")
    assert "secret" not in result.stderr


def test_a_missing_asyncpg_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_asyncpg(Config())
    with pytest.raises(ConfigError) as raised:
        check_asyncpg(Config(postgres=PostgresConfig(url="postgresql://localhost/shop")))
    assert str(raised.value) == (
        'postgres.url needs asyncpg, which is not installed: pip install "wsd-cluster[postgres]"'
    )
