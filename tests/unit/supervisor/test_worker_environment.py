"""The environment that a worker gets agrees with the settings, name by name and default by default."""

from dataclasses import fields, replace

import msgspec
import pytest

from wsd.supervisor.config.keys import all_keys
from wsd.supervisor.config.settings import Config, SecurityConfig, WebSocketConfig
from wsd.supervisor.services.worker_settings import settings_for
from wsd.worker.contract.environment import WorkerEnv

COPIED = {field.name: field.metadata["setting"] for field in fields(WorkerEnv) if field.metadata["setting"]}


def test_a_worker_without_a_supervisor_has_the_defaults_of_a_cluster() -> None:
    assert replace(WorkerEnv(), **settings_for(WorkerEnv, Config())) == WorkerEnv()


@pytest.mark.parametrize("name", COPIED)
def test_a_setting_that_a_worker_gets_exists(name: str) -> None:
    assert tuple(COPIED[name].split(".")) in set(all_keys())


def test_each_setting_reaches_a_worker_once() -> None:
    assert len(set(COPIED.values())) == len(COPIED)


def test_numbers_are_passed_on_as_they_are_and_lists_by_commas() -> None:
    config = Config(
        websocket=WebSocketConfig(ping_interval=7.5, compression=True),
        security=SecurityConfig(sensitive_fields=("pin", "iban"), allowed_origins=()),
    )
    copied = settings_for(WorkerEnv, config)
    assert copied["ping_interval"] == 7.5
    assert copied["compression"] is True
    assert copied["sensitive_fields"] == "pin,iban"
    assert copied["allowed_origins"] == ""


def test_the_environment_has_a_field_for_every_setting_of_the_kinds_that_only_workers_use() -> None:
    settings = set(COPIED.values())
    for section in ("websocket", "security"):
        keys = {f"{section}.{key}" for key in msgspec.structs.asdict(getattr(Config(), section))}
        assert keys - settings == set()
