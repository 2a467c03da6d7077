import os

import pytest

# Whoever runs the tests may have set it; what is started by hand has it not.
os.environ.pop("PYTHONUNBUFFERED", None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
