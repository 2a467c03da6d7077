"""Host headers of requests that only this machine may make."""

import socket

import pytest

from wsd.worker.contract.host_header import is_own_host


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8000",
        "192.0.2.7",  # nginx has decided about the address of the client
        "[::1]",
        "[::1]:8000",
        "localhost",
        " LocalHost:8000 ",
        "localhost.",
        "chat.localhost",
        socket.gethostname(),
        "ops.example.com",
        "OPS.example.com:443",
    ],
)
def test_a_host_header_may_hold_an_address_localhost_or_a_given_name(host: str) -> None:
    assert is_own_host(host, ["Ops.example.com"])


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example.com",
        "ops.example.com.evil.example.com",
        "localhost.evil.example.com",
        "127.0.0.1.evil.example.com",
        "localhost:80:80",
        "localhost:http",
        "localhost/",
    ],
)
def test_other_names_and_malformed_values_are_refused(host: str) -> None:
    assert not is_own_host(host, ["ops.example.com"])
