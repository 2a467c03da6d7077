"""The list of all slots, while it grows."""

from pathlib import Path

from wsd.supervisor.config.sections import Config
from wsd.supervisor.processes.children import Children
from wsd.supervisor.processes.clock import AwakeClock
from wsd.supervisor.processes.slot import RestartPolicy
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.state_dir import StateDir

POLICY = RestartPolicy(backoff_initial=1, backoff_max=1, stable_after=1, max_restarts=1, window=1, start_timeout=1)


def test_who_looks_at_all_children_may_wait_while_more_are_added(tmp_path: Path) -> None:
    state_dir, config = StateDir(tmp_path), Config()
    children = Children(state_dir, POLICY, AwakeClock())
    valkey = children.add(ValkeyService(tmp_path, config.redis, state_dir))
    seen = []
    for child in children:
        seen.append(child)
        children.add(NginxService(tmp_path, config, state_dir))
    assert seen == [valkey]
    assert len(list(children)) == 2
