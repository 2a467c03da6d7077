"""Changes of files that settings name."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from wsd.supervisor.config.file_contents import JWKS, changed, digests
from wsd.supervisor.config.settings import Config


@pytest.fixture
def key_set(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text("one")
    return path


def with_key_set(path: Path | str) -> Config:
    config = Config()
    return replace(config, security=replace(config.security, jwt_jwks_file=str(path)))


def test_a_file_with_new_content_is_named_with_its_setting(key_set: Path) -> None:
    config = with_key_set(key_set)
    before = digests(config)
    assert list(changed(before, digests(config), config)) == []
    key_set.write_text("two")
    note = f"security.jwt_jwks_file: {key_set} has new content, which the workers read without a restart"
    assert list(changed(before, digests(config), config)) == [(JWKS, note)]


def test_a_file_that_is_removed_or_made_has_new_content(key_set: Path) -> None:
    config = with_key_set(key_set)
    before = digests(config)
    key_set.unlink()
    without = digests(config)
    assert without == {JWKS: ""}
    assert [key for key, _ in changed(before, without, config)] == [JWKS]
    assert [key for key, _ in changed(without, before, config)] == [JWKS]


def test_a_setting_that_names_no_file_has_no_digest(key_set: Path) -> None:
    config, without = with_key_set(key_set), with_key_set("")
    assert digests(without) == {}
    assert list(changed(digests(config), digests(without), config)) == []
