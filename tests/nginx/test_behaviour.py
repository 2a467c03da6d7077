"""The behaviour of nginx with the rendered configuration, seen by clients and by workers."""

import asyncio
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.support.nginx import LARGE_BYTES, Certificate, Upstream, front, read_head
from wsd.supervisor.services.nginx_config import PROXY_HEADERS, spellings

pytestmark = pytest.mark.anyio


async def test_a_handshake_reaches_a_worker_as_one(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path) as nginx:
        answer, writer = await nginx.handshake("Origin: http://localhost", target="/ws?user_id=%20a&x=1")
        assert answer.status == 101
        (seen,) = [request for up in nginx.upstreams for request in up.requests]
        assert seen["request"] == "GET /ws?user_id=%20a&x=1 HTTP/1.1"
        assert (seen["upgrade"], seen["connection"]) == ("websocket", "upgrade")
        assert seen["host"] == f"localhost:{nginx.port}"
        assert seen["origin"] == "http://localhost"
        writer.close()


async def test_a_request_never_enters_a_connection_that_a_worker_may_be_closing(
    nginx_binary: Path, tmp_path: Path
) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1, workers=1) as nginx:
        for _ in range(5):
            assert (await nginx.ask("/x")).body == b"ok"
        (up,) = nginx.upstreams
        assert up.connections == len(up.requests) == 5
        assert up.requests[0]["connection"] == "close"
        assert "upgrade" not in up.requests[0]


async def test_forged_headers_about_the_client_do_not_reach_the_application(nginx_binary: Path, tmp_path: Path) -> None:
    forged = (
        "X-Forwarded-For: 1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "Forwarded: for=1.2.3.4;proto=https",
    )
    async with front(nginx_binary, tmp_path, upstreams=1) as nginx:
        await nginx.ask("/", *forged)
        _, writer = await nginx.handshake(*forged)
        for seen in nginx.upstreams[0].requests:
            assert seen["x-forwarded-for"] == "127.0.0.1"
            assert seen["x-real-ip"] == "127.0.0.1"
            assert seen["x-forwarded-proto"] == "http"
            assert seen["x-forwarded-host"] == f"localhost:{nginx.port}"
            assert "forwarded" not in seen
        writer.close()


async def test_a_trusted_proxy_is_believed(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1, trusted_proxies=["127.0.0.0/8", "::1"]) as nginx:
        await nginx.ask("/", "X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Forwarded-Proto: https")
        seen = nginx.upstreams[0].requests[0]
        assert seen["x-forwarded-for"] == "1.2.3.4"
        assert seen["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("kind", ["absent", "refusing"])
@pytest.mark.parametrize("affinity", ["least_conn", "ip"])
@pytest.mark.parametrize(("workers", "dead"), [(2, 1), (3, 2), (4, 2), (8, 2)])
async def test_workers_that_cannot_be_reached_are_stepped_over(
    nginx_binary: Path, tmp_path: Path, kind: str, affinity: str, workers: int, dead: int
) -> None:
    async with front(nginx_binary, tmp_path, upstreams=workers, affinity=affinity) as nginx:
        for up in nginx.upstreams[:dead]:
            refuse_connections(up, absent=kind == "absent")
        large = bytes(range(256)) * 4096
        for _ in range(8):
            answer, writer = await nginx.handshake()
            assert answer.status == 101
            writer.close()
            assert (await nginx.ask("/?a=%20b")).status == 200
            assert (await nginx.ask("/small", body=b"small")).status == 200
        assert (await nginx.ask("/large", body=large)).status == 200
        answers = await nginx.chunked("/chunked", large)
        assert answers.status == 200
        alive = nginx.upstreams[dead:]
        assert nginx.requests.count("GET /?a=%20b HTTP/1.1") == 8
        bodies = [body for up in alive for body in up.bodies if body]
        assert sorted(bodies, key=len) == [b"small"] * 8 + [large] * 2
        assert not any(up.requests for up in nginx.upstreams[:dead])


def refuse_connections(up: Upstream, *, absent: bool) -> None:
    up.path.unlink()
    if not absent:
        with socket.socket(socket.AF_UNIX) as listener:  # bound once, and nobody listens any more
            listener.bind(str(up.path))


@pytest.mark.parametrize("target", ["/die", "/health?die", "/api/websocket/stats?die", "/die-later"])
async def test_a_request_that_ends_a_worker_reaches_no_other(nginx_binary: Path, tmp_path: Path, target: str) -> None:
    async with front(nginx_binary, tmp_path, upstreams=4) as nginx:
        assert (await nginx.ask(target)).status == 502
        assert nginx.requests == [f"GET {target} HTTP/1.1"]
        for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "POST"):
            assert (await nginx.ask("/die", method=method)).status == 502
            assert nginx.requests.count(f"{method} /die HTTP/1.1") == 1
        assert (await nginx.ask("/large-die", body=b"x" * 1_000_000)).status == 502
        assert nginx.requests.count("POST /large-die HTTP/1.1") == 1


async def test_a_request_that_ends_a_worker_after_others_were_stepped_over_reaches_no_more(
    nginx_binary: Path, tmp_path: Path
) -> None:
    async with front(nginx_binary, tmp_path, upstreams=4) as nginx:
        refuse_connections(nginx.upstreams[0], absent=False)
        for number in range(4):
            assert (await nginx.ask(f"/{number}-die")).status == 502
            assert nginx.requests.count(f"GET /{number}-die HTTP/1.1") == 1


async def test_a_slow_request_is_carried_out_once(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=4, http_timeout=1) as nginx:
        answers = await asyncio.gather(nginx.ask("/hang"), nginx.ask("/hang", body=b"x" * 100))
        assert [answer.status for answer in answers] == [504, 504]
        assert sorted(nginx.requests) == ["GET /hang HTTP/1.1", "POST /hang HTTP/1.1"]


async def test_a_handshake_that_ends_a_worker_reaches_few(nginx_binary: Path, tmp_path: Path) -> None:
    """nginx tries one more worker, if no application can have seen the handshake, and otherwise none."""
    async with front(nginx_binary, tmp_path, upstreams=4) as nginx:
        answer, writer = await nginx.handshake(target="/die")
        assert answer.status == 502
        assert nginx.requests == ["GET /die HTTP/1.1"] * 2
        writer.close()
        answer, writer = await nginx.handshake(target="/die-later")
        assert answer.status == 502
        assert nginx.requests.count("GET /die-later HTTP/1.1") == 1
        writer.close()


async def test_no_more_than_two_other_workers_are_asked(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=5, debug_headers=True) as nginx:
        for up in nginx.upstreams:
            refuse_connections(up, absent=False)
        answer = await nginx.ask("/")
        assert answer.status == 502
        assert len(set(answer.headers["x-backend"].split(" : "))) == 3


async def test_a_worker_that_comes_back_is_used_at_once(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=2, workers=1) as nginx:
        up = nginx.upstreams[0]
        away = up.path.rename(tmp_path / "away.sock")
        for _ in range(10):
            await nginx.ask("/", "Connection: close")
        away.rename(up.path)
        open_writers = [(await nginx.handshake())[1] for _ in range(10)]
        assert any("upgrade" in request for request in up.requests)
        for writer in open_writers:
            writer.close()


async def test_least_conn_spreads_evenly(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=4) as nginx:
        writers = [(await nginx.handshake())[1] for _ in range(40)]
        assert [len(up.requests) for up in nginx.upstreams] == [10] * 4
        for writer in writers:
            writer.close()


async def test_messages_of_one_publisher_go_to_one_worker(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=4) as nginx:
        for _ in range(12):
            assert (await nginx.ask("/api/websocket/publish", "X-WSD-Publisher: a")).status == 200
        assert sorted(len(up.requests) for up in nginx.upstreams) == [0, 0, 0, 12]
        (busy,) = [up for up in nginx.upstreams if up.requests]
        refuse_connections(busy, absent=True)
        assert (await nginx.ask("/api/websocket/publish", "X-WSD-Publisher: a")).status == 200
        for _ in range(40):
            await nginx.ask("/api/websocket/publish")
        assert all(up.requests for up in nginx.upstreams), "programs that name no publisher use all workers"


async def test_ip_affinity_keeps_an_address_on_its_worker(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=4, affinity="ip") as nginx:
        writers = [(await nginx.handshake())[1] for _ in range(12)]
        assert sorted(len(up.requests) for up in nginx.upstreams) == [0, 0, 0, 12]
        for writer in writers:
            writer.close()


async def test_requests_that_are_too_large_are_refused(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, max_body_bytes=1000, max_header_bytes=2048) as nginx:
        assert (await nginx.ask("/", body=b"x" * 1000)).status == 200
        assert (await nginx.ask("/", body=b"x" * 1001)).status == 413
        assert (await nginx.ask("/", "X-Long: " + "x" * 1900)).status == 200
        assert (await nginx.ask("/", "X-Long: " + "x" * 3000)).status in (400, 431)
        assert (await nginx.ask("/?" + "x" * 3000)).status == 414


async def test_headers_of_both_directions_have_the_same_limit(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=2, max_header_bytes=20_000) as nginx:
        for size, expected in ((4200, True), (9000, True), (16_000, True), (19_500, True), (20_500, False)):
            answered = await nginx.ask(f"/header-{size}")
            assert answered.status == (200 if expected else 502), size
            switched, writer = await nginx.handshake(target=f"/header-{size}")
            assert switched.status == (101 if expected else 502), size
            writer.close()
            asked = await nginx.ask("/", "Cookie: " + "x" * size)
            assert asked.status == (200 if expected else 400), size
            cookie, writer = await nginx.handshake("Cookie: " + "x" * size)
            assert cookie.status == (101 if expected else 400), size
            writer.close()
            assert {"x-content-type-options", "x-frame-options", "referrer-policy"} <= asked.headers.keys()
        assert (await nginx.ask("/", *(f"X-{number}: {number}" for number in range(100)))).status == 200
        assert len(nginx.upstreams[0].requests[-1] | nginx.upstreams[1].requests[-1]) > 100
        assert (await nginx.ask("/", *(f"X-{number}: {'x' * 19_000}" for number in range(4)))).status == 200
        assert (await nginx.ask("/", *(f"X-{number}: {'x' * 19_000}" for number in range(5)))).status == 400


async def test_a_slow_reader_slows_the_application_down(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1) as nginx:
        reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            await nginx.upstreams[0].is_held_up.wait()
            assert await read_head(reader) is not None
            assert await reader.readexactly(LARGE_BYTES) == b"x" * LARGE_BYTES
        writer.close()


@pytest.mark.parametrize("name", ["x_tenant", "x.tenant", "_", "X_Forwarded", "x_real.ip", "x!tenant"])
async def test_names_of_headers_are_the_applications(nginx_binary: Path, tmp_path: Path, name: str) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1) as nginx:
        await nginx.ask("/", f"{name}: 1", "X-Tenant: 2")
        _, writer = await nginx.handshake(f"{name}: 1", "X-Tenant: 2")
        for seen in nginx.upstreams[0].requests:
            assert (seen[name.lower()], seen["x-tenant"]) == ("1", "2")
        writer.close()


async def test_a_proxy_header_cannot_be_forged_by_another_spelling(nginx_binary: Path, tmp_path: Path) -> None:
    """CGI and WSGI name a header X_Forwarded-For like X-Forwarded-For, and would join their values."""
    names = [name for header in PROXY_HEADERS for name in spellings(header)]
    assert {"X_Forwarded_For", "X-Forwarded_For", "X_Forwarded-For", "X_Real_IP"} <= {*names}
    forged = [f"{name.swapcase() if number % 2 else name}: 6.6.6.6" for number, name in enumerate(names)]
    async with front(nginx_binary, tmp_path, upstreams=1, trusted_proxies=["127.0.0.1"]) as nginx:
        await nginx.ask("/", *forged)
        await nginx.ask("/health", *forged)
        await nginx.ask("/api/websocket/stats", *forged)
        _, writer = await nginx.handshake(*forged)
        assert len(nginx.upstreams[0].requests) == 4
        for seen in nginx.upstreams[0].requests:
            assert "6.6.6.6" not in seen.values()
            assert not any("_" in name for name in seen)
        writer.close()


async def test_too_many_handshakes_are_refused_with_retry_after(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, handshakes_per_second=1, handshake_burst=2) as nginx:
        handshakes = [await nginx.handshake() for _ in range(5)]
        answers = [answer for answer, _ in handshakes]
        assert [answer.status for answer in answers] == [101, 101, 101, 429, 429]
        assert answers[-1].headers["retry-after"] == "1"
        for _ in range(10):
            assert (await nginx.ask("/")).status == 200  # only handshakes are counted
        for _, writer in handshakes:
            writer.close()


async def test_one_address_cannot_take_the_handshakes_of_all(nginx_binary: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"handshakes_per_second_per_address": 1, "handshake_burst_per_address": 2}
    async with front(nginx_binary, tmp_path, trusted_proxies=["127.0.0.1"], **settings) as nginx:

        async def statuses(*addresses: str) -> list[int]:
            found = []
            for address in addresses:
                answer, writer = await nginx.handshake(f"X-Forwarded-For: {address}")
                found.append(answer.status)
                writer.close()
            return found

        assert await statuses(*["192.0.2.1"] * 4) == [101, 101, 101, 429]
        assert await statuses("192.0.2.2", "192.0.2.1") == [101, 429]
        of_one_network = [f"2001:db8::{number}" for number in range(1, 4)]
        assert await statuses(*of_one_network, "2001:db8::ffff:ffff:ffff:ffff") == [101, 101, 101, 429]
        assert await statuses("2001:db8:0:1::1", "2001:db8::9") == [101, 429]
        of_ipv4 = [f"::ffff:198.51.100.{number}" for number in range(1, 6)]
        assert await statuses(*of_ipv4) == [101] * 5
        assert await statuses(*["127.0.0.1"] * 5) == [101] * 5


async def test_one_address_cannot_empty_the_bucket_of_all(nginx_binary: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"handshakes_per_second": 4, "handshake_burst": 40}
    async with front(nginx_binary, tmp_path, trusted_proxies=["127.0.0.1"], **settings) as nginx:
        for _ in range(30):
            flood, writer = await nginx.handshake("X-Forwarded-For: 192.0.2.1")
            writer.close()
        assert flood.status == 429
        assert flood.headers["retry-after"] == "1"
        for number in range(2, 12):
            answer, writer = await nginx.handshake(f"X-Forwarded-For: 192.0.2.{number}")
            assert answer.status == 101
            writer.close()


async def test_one_address_cannot_take_all_connections(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, max_connections_per_address=3) as nginx:
        handshakes = [await nginx.handshake() for _ in range(4)]
        assert [answer.status for answer, _ in handshakes] == [101, 101, 101, 429]
        assert (await nginx.ask("/")).status == 200
        handshakes[0][1].close()
        async with asyncio.timeout(10):
            while (again := await nginx.handshake())[0].status != 101:
                again[1].close()
        for _, writer in [*handshakes, again]:
            writer.close()


async def test_debug_headers_tell_the_worker_even_on_a_handshake(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1, debug_headers=True) as nginx:
        answer, writer = await nginx.handshake()
        assert answer.headers["x-backend"] == f"unix:{nginx.upstreams[0].path}"
        assert "x-backend-time" in answer.headers
        writer.close()
        assert (await nginx.ask("/")).headers["x-backend"] == f"unix:{nginx.upstreams[0].path}"


async def test_responses_reveal_no_versions_and_have_security_headers(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path) as nginx:
        answer = await nginx.ask("/")
        assert answer.headers["server"] == "nginx"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
        assert "referrer-policy" in answer.headers
        assert not [name for name in answer.headers if name.startswith("x-backend")]


async def test_health_reaches_a_worker(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1) as nginx:
        assert (await nginx.ask("/health")).status == 200
        assert nginx.upstreams[0].requests[0]["request"] == "GET /health HTTP/1.1"


async def test_without_any_worker_it_answers_502(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=2) as nginx:
        for up in nginx.upstreams:
            up.path.unlink()
        answer, writer = await nginx.handshake()
        assert answer.status == 502
        writer.close()


async def test_tls_and_the_way_to_it(nginx_binary: Path, tmp_path: Path, certificate: Certificate) -> None:
    settings: dict[str, Any] = {"tls_certificate": certificate.path, "tls_key": certificate.key, "tls_redirect_port": 1}
    async with front(nginx_binary, tmp_path, upstreams=1, tls=certificate.client, **settings) as nginx:
        answer, writer = await nginx.handshake()
        assert answer.status == 101
        assert nginx.upstreams[0].requests[0]["x-forwarded-proto"] == "https"
        assert "max-age" in answer.headers["strict-transport-security"]
        writer.close()
        redirect = await nginx.ask("/a?b=1", port=nginx.redirect_port, plain=True)
        assert redirect.status == 308
        assert redirect.headers["location"] == f"https://127.0.0.1:{nginx.port}/a?b=1"


async def test_the_redirect_lets_challenges_of_acme_through(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate
) -> None:
    webroot = tmp_path / "web root"
    challenges = webroot / ".well-known" / "acme-challenge"
    (challenges / "folder").mkdir(parents=True)
    (challenges / "to_ken-1").write_text("answer")
    (challenges / "leak").symlink_to(certificate.key)
    (webroot / "secret").write_text("secret")
    settings: dict[str, Any] = {"tls_certificate": certificate.path, "tls_key": certificate.key, "tls_redirect_port": 1}
    async with front(
        nginx_binary, tmp_path, 1, certificate.client, acme_webroot=str(webroot), hsts_seconds=60, **settings
    ) as nginx:

        async def ask(target: str, method: str = "") -> tuple[int, bytes]:
            answer = await nginx.ask(target, port=nginx.redirect_port, plain=True, method=method)
            return answer.status, answer.body

        root = "/.well-known/acme-challenge/"
        assert await ask(f"{root}to_ken-1") == (200, b"answer")
        for target, status in (("leak", 404), ("folder", 404), ("none", 404), ("", 308), ("../../secret", 308)):
            assert (await ask(root + target))[0] == status, target
        assert (await ask(f"{root}to_ken-1", "POST"))[0] == 403
        assert (await ask("/"))[0] == 308
        assert (await nginx.ask("/")).headers["strict-transport-security"] == "max-age=60"


async def test_requests_go_over_http2_and_websockets_over_the_same_port(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate
) -> None:
    settings = {"tls_certificate": certificate.path, "tls_key": certificate.key}
    async with front(nginx_binary, tmp_path, upstreams=1, tls=certificate.client, **settings) as nginx:
        url = f"https://localhost:{nginx.port}/x"
        form = "%{http_version} %{http_code}"
        command = ["curl", "-sk", "--http2", "--resolve", f"localhost:{nginx.port}:127.0.0.1", "-o", "/dev/null"]
        for header in ("x_tenant: 1", "Upgrade: websocket"):
            curl = await asyncio.create_subprocess_exec(
                *command, "-H", header, "-w", form, "-m", "10", url, stdout=asyncio.subprocess.PIPE
            )
            output, _ = await curl.communicate()
            assert output == b"2 200", header
        seen = nginx.upstreams[0].requests[0]
        assert (seen["x_tenant"], seen["host"]) == ("1", f"localhost:{nginx.port}")
        answer, writer = await nginx.handshake()
        assert answer.status == 101
        writer.close()


@pytest.mark.parametrize(("trusted", "expected"), [("127.0.0.1", "192.0.2.9"), ("10.0.0.1", "127.0.0.1")])
async def test_a_load_balancer_says_who_the_client_is(
    nginx_binary: Path, tmp_path: Path, trusted: str, expected: str
) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1, trusted_proxies=[trusted], proxy_protocol=True) as nginx:
        reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
        writer.write(b"PROXY TCP4 192.0.2.9 192.0.2.1 1234 80\r\n")
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n")
        await reader.readline()
        writer.close()
        (seen,) = nginx.upstreams[0].requests
        assert (seen["x-forwarded-for"], seen["x-real-ip"], seen["x-forwarded-proto"]) == (expected, expected, "http")


async def test_the_operators_own_directives_are_in_the_server(nginx_binary: Path, tmp_path: Path) -> None:
    own = tmp_path / 'my "own" [1] $.conf'
    own.write_text("location = /robots.txt { return 200 nothing; }\n")
    async with front(nginx_binary, tmp_path, include=str(own)) as nginx:
        assert (await nginx.ask("/robots.txt")).body == b"nothing"
        assert (await nginx.ask("/")).body == b"ok"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "a.example:1", "x@evil.example", "evil.example/"])
@pytest.mark.parametrize("server_name", ["", "chat.example.com"])
async def test_redirects_name_the_configured_host(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate, host: str, server_name: str
) -> None:
    settings: dict[str, Any] = {"tls_certificate": certificate.path, "tls_key": certificate.key, "tls_redirect_port": 1}
    async with front(
        nginx_binary, tmp_path, upstreams=1, tls=certificate.client, server_name=server_name, **settings
    ) as nginx:
        redirect = await nginx.ask("/a?b=1", f"Host: {host}", port=nginx.redirect_port, plain=True)
        if redirect.status != 400:  # nginx's own word on what is no host
            assert redirect.headers["location"] == f"https://{server_name or '127.0.0.1'}:{nginx.port}/a?b=1"
        absolute = await nginx.ask("http://evil.example/a", port=nginx.redirect_port, plain=True)
        assert absolute.headers["location"].startswith(f"https://{server_name or '127.0.0.1'}:{nginx.port}/")
        of_nginx = await nginx.ask("/_wsd/dashboard", f"Host: {host}")
        if of_nginx.status != 400:
            assert (of_nginx.status, of_nginx.headers["location"]) == (301, "/_wsd/dashboard/")


async def test_security_headers_are_on_every_answer(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate
) -> None:
    settings: dict[str, Any] = {
        "tls_certificate": certificate.path,
        "tls_key": certificate.key,
        "tls_redirect_port": 1,
        "http_timeout": 1,
        "max_body_bytes": 1000,
        "max_header_bytes": 2048,
        "max_connections_per_address": 1,
        "admin_allow": ["192.0.2.1"],
    }
    async with front(nginx_binary, tmp_path, upstreams=2, tls=certificate.client, **settings) as nginx:
        first, writer = await nginx.handshake()
        second, refused_writer = await nginx.handshake()
        answers = {
            101: first,
            429: second,
            200: await nginx.ask("/"),
            204: await nginx.ask("/_wsd/alive"),
            301: await nginx.ask("/_wsd/dashboard"),
            308: await nginx.ask("/", port=nginx.redirect_port, plain=True),
            400: await nginx.ask("/", "Host: two", "Host: hosts"),
            403: await nginx.ask("/metrics"),
            404: await nginx.ask("/_wsd/unknown"),
            405: await nginx.ask("/", method="TRACE"),
            413: await nginx.ask("/", body=b"x" * 1001),
            414: await nginx.ask("/?" + "x" * 3000),
            502: await nginx.ask("/die"),
            504: await nginx.ask("/hang"),
        }
        plain_to_tls = await nginx.ask("/", plain=True)
        for up in nginx.upstreams:
            refuse_connections(up, absent=True)
        answers |= {-502: await nginx.ask("/x"), -400: plain_to_tls}
        for status, answer in answers.items():
            assert answer.status == abs(status)
            expected = {"x-content-type-options", "x-frame-options", "referrer-policy"}
            if status not in (308, -400):  # they came without TLS, where nobody believes it (RFC 6797, 7.2)
                expected.add("strict-transport-security")
            assert expected <= answer.headers.keys(), status
        writer.close()
        refused_writer.close()


async def test_a_security_header_of_the_application_is_the_only_one_of_its_name(
    nginx_binary: Path, tmp_path: Path, certificate: Certificate
) -> None:
    added = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
        "referrer-policy": "strict-origin-when-cross-origin",
        "strict-transport-security": "max-age=31536000",
    }
    settings: dict[str, Any] = {
        "tls_certificate": certificate.path,
        "tls_key": certificate.key,
        "hsts_seconds": 31_536_000,
        "debug_headers": True,
        "max_connections_per_address": 10,
    }
    async with front(nginx_binary, tmp_path, upstreams=2, tls=certificate.client, **settings) as nginx:
        for name in added:
            asked = await nginx.ask(f"/?own={name}")
            switched, writer = await nginx.handshake(target=f"/?own={name.title()}")
            writer.close()
            for answer in (asked, switched):
                assert {known: answer.headers[known] for known in added} == {**added, name: "own"}
        refuse_connections(nginx.upstreams[0], absent=True)
        for _ in range(4):  # the answer of the second worker that is asked counts
            asked = await nginx.ask("/?own=x-frame-options")
            assert asked.headers["x-frame-options"] == "own"


async def test_nothing_of_a_query_is_logged(nginx_binary: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "trusted_proxies": ["127.0.0.1"],
        "handshakes_per_second": 1,
        "handshake_burst": 0,
        "http_timeout": 1,
        "max_header_bytes": 2048,
        "access_log": True,
    }
    async with front(nginx_binary, tmp_path, upstreams=3, **settings) as nginx:
        for target in ("/ws?token=s3cret", "/ws?token=s3cret", "/ws?token=s3cret&die"):
            (await nginx.handshake("Referer: http://x/?s3cret", target=target))[1].close()
        await nginx.ask("/?token=s3cret&die")
        await nginx.ask("/?token=s3cret&hang", "X-Forwarded-For: not an address s3cret")
        await nginx.ask("/?token=s3cret" + "x" * 3000)
        await nginx.ask("/?token=s3cret", "X: " + "s3cret" * 500)
        await nginx.ask("/metrics?token=s3cret", "X-Forwarded-For: 192.0.2.1")
        for up in nginx.upstreams:
            refuse_connections(up, absent=up is nginx.upstreams[0])
        assert (await nginx.ask("/unreachable?token=s3cret")).status == 502
        (await nginx.handshake("X-Forwarded-For: 192.0.2.7", target="/ws?token=s3cret"))[1].close()
    log = (tmp_path / "error.log").read_text()
    assert '[error] 502 for GET "/unreachable" from 127.0.0.1' in log
    assert '[error] 504 for GET "/"' in log
    access = (tmp_path / "access.log").read_text()
    assert "GET /metrics HTTP/1.1" in access
    assert "s3cret" not in log + access


async def test_old_tls_is_refused(nginx_binary: Path, tmp_path: Path, certificate: Certificate) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    settings: dict[str, Any] = {"tls_certificate": certificate.path, "tls_key": certificate.key}
    async with front(nginx_binary, tmp_path, tls=old, **settings) as nginx:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await nginx.ask("/")


async def test_metrics_come_from_the_supervisor_and_nothing_else_of_it_is_reachable(
    nginx_binary: Path, tmp_path: Path
) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1) as nginx:
        assert (await nginx.ask("/metrics")).body == b"ok"
        (seen,) = nginx.supervisor.requests
        assert seen["request"] == "GET /v1/metrics HTTP/1.1"
        assert (await nginx.ask("/metrics", body=b"x")).status == 403
        for target in ("/v1/status", "/metrics/v1/status", "/metrics/../v1/stop"):
            await nginx.ask(target)  # is the application's, whatever it says
        assert len(nginx.supervisor.requests) == 1
        assert (await nginx.ask("/api/websocket/stats?limit=5")).status == 200
        assert nginx.upstreams[0].requests[-1]["request"] == "GET /api/websocket/stats?limit=5 HTTP/1.1"


@pytest.mark.parametrize("target", ["/metrics", "/api/websocket/stats", "/x/../metrics", "//metrics", "/%6Detrics"])
async def test_pages_for_admitted_addresses_are_refused_to_others(
    nginx_binary: Path, tmp_path: Path, target: str
) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1, admin_allow=["192.0.2.0/24"]) as nginx:
        assert (await nginx.ask(target)).status == 403
        assert nginx.supervisor.requests == nginx.upstreams[0].requests == []
        assert (await nginx.ask("/health")).status == 200


async def test_a_visitor_of_a_trusted_proxy_is_not_taken_for_the_proxy(nginx_binary: Path, tmp_path: Path) -> None:
    async with front(nginx_binary, tmp_path, upstreams=1, trusted_proxies=["127.0.0.1"]) as nginx:
        assert (await nginx.ask("/metrics", "X-Forwarded-For: 198.51.100.7")).status == 403
        assert (await nginx.ask("/metrics")).status == 200
