from collections.abc import Iterator

import pytest

from tests.support.ports import unused_port
from tests.support.valkey import valkey


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Valkey of its own for the tests of a module."""
    with valkey(tmp_path_factory.mktemp("valkey"), unused_port()) as url:
        yield url
