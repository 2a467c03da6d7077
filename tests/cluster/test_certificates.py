"""TLS on a running cluster: certificates that are renewed, half renewed and broken."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from websockets.asyncio.client import connect

from tests.support.cluster import Cluster
from tests.support.hub_client import ask, receive
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CONFIG = """
[nginx]
tls_certificate = "live/cert.pem"
tls_key = "live/key.pem"
server_name = "localhost"
"""


class Authority:
    """Writes certificates as certbot does: into a new directory, to which a symbolic link then leads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.issued = 0

    def issue(self, *names: str) -> trustme.LeafCert:
        return self.ca.issue_cert(*(names or ("localhost", "127.0.0.1")))

    def renew(self, *names: str) -> str:
        """Write a certificate and a key, point the link at them, and return the serial number."""
        leaf = self.issue(*names)
        self.issued += 1
        home = self.directory / f"archive-{self.issued}"
        home.mkdir()
        leaf.cert_chain_pems[0].write_to_path(home / "cert.pem")
        leaf.private_key_pem.write_to_path(home / "key.pem")
        link = self.directory / "live.new"
        link.symlink_to(home)
        link.rename(self.directory / "live")
        return serial_of(leaf)


def serial_of(leaf: trustme.LeafCert) -> str:
    return f"{x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number:x}"


def served_serial(cluster: Cluster) -> str:
    """Return the serial number of the certificate that a new client gets."""
    pem = ssl.get_server_certificate(("127.0.0.1", cluster.port), timeout=10)
    return f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}"


def events(cluster: Cluster, text: str) -> int:
    return cluster.wsd("events").stdout.count(text)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"))
    made.renew()
    return made


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[Cluster]:
    with Cluster(authority.directory, "--workers", "1", config=CONFIG) as running:
        yield running


async def test_a_renewed_certificate_is_served_without_a_command(cluster: Cluster, authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.ca.configure_trust(context)
    url = f"wss://localhost:{cluster.port}/ws?user_id=a"
    async with connect(url, ssl=context, host="127.0.0.1", ping_interval=None) as connection:
        assert (await receive(connection))["type"] == "welcome"
        serial = authority.renew()
        await asyncio.to_thread(until, lambda: served_serial(cluster) == serial, "the new certificate")
        assert (await ask(connection, type="ping"))["type"] == "pong"  # the old connection lives on
    assert f"nginx uses a new certificate: serial number {serial}" in cluster.wsd("events").stdout
    reloaded = cluster.wsd("reload")
    assert "nginx.tls_certificate: " in reloaded.stdout
    assert "has new content" in reloaded.stdout
    assert "no setting has changed" in cluster.wsd("reload").stdout


async def test_a_pair_that_is_half_written_is_served_once_it_is_whole(cluster: Cluster, authority: Authority) -> None:
    before = served_serial(cluster)
    told = events(cluster, "is not the key of the certificate")
    leaf = authority.issue()
    home = authority.directory / "live"
    leaf.cert_chain_pems[0].write_to_path(home / "cert.pem")
    await asyncio.to_thread(until, lambda: cluster.status().warnings, "a warning")
    assert "is not the key of the certificate" in cluster.status().warnings[0]
    assert served_serial(cluster) == before
    refused = cluster.wsd("reload")
    assert refused.returncode == 1
    assert "the settings are as before" in refused.stderr
    doctor = cluster.wsd("doctor").stdout
    assert "is not the key of the certificate" in doctor
    leaf.private_key_pem.write_to_path(home / "key.pem")
    await asyncio.to_thread(until, lambda: served_serial(cluster) == serial_of(leaf), "the new certificate")
    await asyncio.to_thread(until, lambda: not cluster.status().warnings, "no warning")
    assert events(cluster, "is not the key of the certificate") == told + 1


@pytest.mark.parametrize("kind", ["text", "missing"])
async def test_a_broken_certificate_leaves_the_old_one(cluster: Cluster, authority: Authority, kind: str) -> None:
    before = served_serial(cluster)
    path = authority.directory / "live" / "cert.pem"
    path.unlink()
    if kind != "missing":
        path.write_text("no certificate")
    await asyncio.to_thread(until, lambda: cluster.status().warnings, "a warning")
    assert "nginx still uses the old TLS certificate: nginx.tls_certificate" in cluster.status().warnings[0]
    assert served_serial(cluster) == before
    serial = authority.renew()
    await asyncio.to_thread(until, lambda: served_serial(cluster) == serial, "the new certificate")
    await asyncio.to_thread(until, lambda: not cluster.status().warnings, "no warning")


async def test_a_certificate_of_another_name_is_a_finding(cluster: Cluster, authority: Authority) -> None:
    authority.renew("other.example")
    await asyncio.to_thread(until, lambda: cluster.status().warnings, "a warning")
    assert cluster.status().warnings == [
        "the TLS certificate is for other.example, not for nginx.server_name localhost"
    ]
    assert "is for other.example" in cluster.wsd("doctor").stdout
    authority.renew()
    await asyncio.to_thread(until, lambda: not cluster.status().warnings, "no warning")


def test_a_cluster_behind_a_load_balancer_comes_up(authority: Authority, tmp_path: Path) -> None:
    names = {key: authority.directory / "live" / f"{key}.pem" for key in ("cert", "key")}
    config = f"""
[nginx]
tls_certificate = "{names["cert"]}"
tls_key = "{names["key"]}"
proxy_protocol = true
trusted_proxies = ["127.0.0.1"]
include = "own.conf"
"""
    own = tmp_path / "own.conf"
    own.write_text("location = /who { return 200 $remote_addr; }\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.ca.configure_trust(context)
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        cluster.wait_until_healthy()

        def ask(target: str) -> bytes:
            with socket.create_connection(("127.0.0.1", cluster.port), timeout=10) as plain:
                plain.sendall(b"PROXY TCP4 192.0.2.9 192.0.2.1 1234 443\r\n")
                with context.wrap_socket(plain, server_hostname="localhost") as client:
                    client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                    return b"".join(iter(lambda: client.recv(65_536), b""))

        assert ask("/who").endswith(b"192.0.2.9")
        own.write_text("location = /who { return 200 else; }\n")
        reloaded = cluster.wsd("reload")
        assert f"nginx.include: {own} has new content" in reloaded.stdout
        # After a reload, an old process of nginx may still accept a connection before a new one does.
        until(lambda: ask("/who").endswith(b"else"), "an answer by the new configuration")
        own.write_text("nonsense on;\n")
        refused = cluster.wsd("reload")
        assert refused.returncode == 1
        assert f'unknown directive "nonsense" in {own}:1' in refused.stderr
        assert ask("/who").endswith(b"else")
