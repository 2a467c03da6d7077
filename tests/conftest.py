import os
import sys

import pytest

# Whoever runs the tests may have set it; what is started by hand has it not.
os.environ.pop("PYTHONUNBUFFERED", None)

# Compiling all tests takes 12 seconds in each process that runs some of them. Only this process writes what it
# compiled: an application that a test changes within a second keeps its size and its time of change.
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.environ.get("WSD_LONG_TESTS"):
        for item in items:
            if item.get_closest_marker("long_run") is not None:
                item.add_marker(pytest.mark.skip(reason="runs where WSD_LONG_TESTS is set"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
