"""The programs that a cluster has beside its workers."""

from pathlib import Path

import pytest

from wsd.supervisor.config.settings import Config, NginxConfig, RedisConfig
from wsd.supervisor.errors import ConfigError, StartError
from wsd.supervisor.services.programs import choose_programs
from wsd.supervisor.state_dir.directory import StateDir

ELSEWHERE = "redis://10.0.0.1"


@pytest.mark.parametrize(
    ("redis", "has_redis", "has_fallback"),
    [
        (RedisConfig(), True, False),
        (RedisConfig(embedded=False), False, False),
        (RedisConfig(url=ELSEWHERE, stand_in=False), True, False),
        (RedisConfig(url=ELSEWHERE, stand_in=True), True, True),
    ],
    ids=["embedded", "none", "elsewhere", "fallback"],
)
def test_the_own_valkey_is_the_redis_of_all_or_its_fallback(
    tmp_path: Path, redis: RedisConfig, has_redis: bool, has_fallback: bool
) -> None:
    programs = choose_programs(Config(redis=redis, nginx=NginxConfig(enabled=False)), StateDir(tmp_path))
    assert bool(programs.redis_url(redis.url)) is has_redis
    assert bool(programs.fallback_url(redis.url)) is has_fallback
    if redis.url:
        assert programs.redis_url(redis.url) == redis.url


def test_a_missing_valkey_is_noticed_unless_a_redis_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsd.supervisor.services.valkey.find_binary", lambda: None)
    without_nginx = NginxConfig(enabled=False)
    alone = choose_programs(Config(nginx=without_nginx), StateDir(tmp_path))
    (notice,) = alone.notices
    assert "every worker stands alone" in notice
    assert alone.redis_url("") == ""
    named = Config(redis=RedisConfig(url=ELSEWHERE, stand_in=True), nginx=without_nginx)
    assert choose_programs(named, StateDir(tmp_path)).notices == ()


def test_a_port_that_systemd_holds_needs_nginx(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="only nginx can serve it"):
        choose_programs(Config(nginx=NginxConfig(enabled=False)), StateDir(tmp_path), public_socket=3)


def test_an_nginx_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nginx\.binary"):
        choose_programs(Config(nginx=NginxConfig(binary=str(tmp_path / "nginx"))), StateDir(tmp_path))
