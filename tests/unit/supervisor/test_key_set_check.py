"""The check of `wsd doctor` that the keys of tokens can be fetched."""

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.key_server import key_server
from tests.support.ports import unused_port
from wsd.supervisor.doctor.key_set import key_set
from wsd.supervisor.monitoring.finding import Grade


def test_without_a_url_there_is_nothing_to_check() -> None:
    assert list(key_set("")) == []


def test_the_keys_are_named() -> None:
    with key_server(first=rsa.generate_private_key(public_exponent=65537, key_size=2048)) as server:
        (found,) = key_set(server.url)
        assert (found.grade, found.found) == (Grade.OK, f"{server.url} answers with first")


def test_a_url_that_gives_no_keys_is_a_failure_with_the_reason() -> None:
    with key_server() as server:
        (found,) = key_set(server.url)
        assert (found.grade, bool(found.remedy)) == (Grade.FAILURE, True)
        assert found.found.startswith(f"{server.url} gives no keys: ")
        server.status = 500
        (found,) = key_set(server.url)
        assert "500" in found.found
    (found,) = key_set(f"http://127.0.0.1:{unused_port()}/")
    assert "refused" in found.found
