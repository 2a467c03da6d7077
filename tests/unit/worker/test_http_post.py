"""A POST of webhooks, with answers of all kinds."""

import asyncio
from contextlib import suppress

import pytest

from wsd.worker.hooks.http_post import Poster, PostError


def answered(answer: bytes, target: str = "/a?b=1") -> tuple[int, bytes]:
    """Post to a server that answers so. Return the status, and the request that the server got."""

    async def run() -> tuple[int, bytes]:
        requests: list[bytes] = []
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            requests.append(head + await reader.readexactly(4))
            writer.write(answer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            served.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            try:
                status = await Poster(f"http://127.0.0.1:{port}{target}", 5).post(b"body", {"webhook-id": "1"})
            finally:
                await served.wait()
            return status, requests[0].replace(str(port).encode(), b"PORT")

    return asyncio.run(run())


def test_the_request_is_what_http_says() -> None:
    status, request = answered(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert status == 204
    assert request == (
        b"POST /a?b=1 HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\ncontent-length: 4\r\nwebhook-id: 1\r\n"
        b"connection: close\r\nuser-agent: wsd\r\n\r\nbody"
    )
    assert answered(b"HTTP/1.0 500 Oh\r\n\r\n", "")[1].startswith(b"POST / HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 103 Early Hints\r\nlink: a\r\nlink: b\r\n\r\nHTTP/1.1 302 Found\r\n\r\n", 302),
        (b"HTTP/1.1 200\r\n\r\n", 200),
    ],
)
def test_the_last_status_counts(answer: bytes, status: int) -> None:
    assert answered(answer)[0] == status


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "closed the connection without an answer"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed the connection without an answer"),
        (b"220 mail.example.com\r\n", "not HTTP/1.1"),
        (b"HTTP/1.1 20 OK\r\n", "not HTTP/1.1"),
        (b"\x15\x03\x01" * 50_000, "."),
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, problem: str) -> None:
    with pytest.raises(PostError, match=problem):
        answered(answer)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://name.invalid/", "https://127.0.0.1:1/"], ids=["refused", "unknown", "tls"]
)
def test_a_receiver_that_is_not_there_is_an_error(url: str) -> None:
    with pytest.raises(PostError):
        asyncio.run(Poster(url, 5).post(b"", {}))


def test_a_receiver_that_does_not_answer_is_given_up() -> None:
    async def run() -> None:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            served.set()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(PostError, match=r"no answer within 0\.05 s"):
                await Poster(f"http://127.0.0.1:{port}", 0.05).post(b"", {})
            await served.wait()

    asyncio.run(run())
