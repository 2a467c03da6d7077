"""The slots of a supervisor: iterating while slots are added, and finding them by their service."""

from pathlib import Path

from wsd.supervisor.config.settings import Config, RedisConfig
from wsd.supervisor.processes.children import Children
from wsd.supervisor.processes.clock import AwakeClock
from wsd.supervisor.processes.service import LifeSign
from wsd.supervisor.processes.slot import RestartPolicy
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.state_dir.directory import StateDir

POLICY = RestartPolicy(backoff_initial=1, backoff_max=1, stable_after=1, max_restarts=1, window=1, start_timeout=1)


def test_children_may_be_added_while_others_are_iterated(tmp_path: Path) -> None:
    state_dir, config = StateDir(tmp_path), Config()
    children = Children(state_dir, POLICY, AwakeClock())
    valkey = children.add(ValkeyService(tmp_path, config.redis, state_dir))
    seen = []
    for child in children:
        seen.append(child)
        children.add(NginxService(tmp_path, config, state_dir))
    assert seen == [valkey]
    assert len(list(children)) == 2


def test_slots_are_found_by_the_class_of_their_service(tmp_path: Path) -> None:
    state_dir, config = StateDir(tmp_path), Config()
    children = Children(state_dir, POLICY, AwakeClock())
    nginx = children.add(NginxService(tmp_path, config, state_dir))
    children.add(ValkeyService(tmp_path, config.redis, state_dir))
    assert children.of(NginxService) == [nginx]


def test_a_valkey_beside_a_redis_has_to_be_asked(tmp_path: Path) -> None:
    alone = ValkeyService(tmp_path, RedisConfig(), StateDir(tmp_path))
    beside = ValkeyService(tmp_path, RedisConfig(url="redis://10.0.0.1"), StateDir(tmp_path))
    assert alone.life_sign is LifeSign.REDIS
    assert beside.life_sign is LifeSign.ANSWER
