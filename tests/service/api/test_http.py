"""Limits of each HTTP connection in time, bytes and requests, tested with HTTP that no library would send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from select import select

import httpx
import pytest

from tests.servers import ServerProcess
from tests.service.api.raw import RawConnection, RawSocket
from tests.service.api.test_robustness import counted
from tests.waiting import wait_for

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /pose?timeout_ms=60000 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def impatient(catalogue: Path) -> Iterator[ServerProcess]:
    """A server with timeouts of at most a second, and room for 40 connections."""
    environment = {"head_seconds": 1, "stall_seconds": 0.5, "max_connections": 40, "max_requests": 8, "memory_mb": 40}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as running:
        yield running


Crowd = Callable[..., list[RawConnection]]


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """Return a function that opens many connections, which are closed at the end of the test."""
    with ExitStack() as stack:
        yield lambda port, count, data=b"", source="127.0.0.1": [
            stack.enter_context(RawConnection(port, data, source=source)) for _ in range(count)
        ]


# Bytes


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez?" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (GET + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (GET + b"X-A: b\r\n" * 200 + b"\r\n", 431),
        (GET + b"A" * 40_000 + b": b\r\n\r\n", 431),
    ],
)
def test_a_long_head_is_refused_with_a_reason(server: ServerProcess, head: bytes, status: int) -> None:
    with RawConnection(server.port, head) as connection:
        assert connection.status() == status
        assert b"/problems/" in connection.body
        assert connection.ended()


@pytest.mark.parametrize(
    ("beginning", "piece"),
    [
        (b"GET /livez?", b"a" * 65_536),
        (GET + b"X-A: ", b"a" * 65_536),
        (GET, b"x: y\r\n" * 10_000),
        (GET, b"a" * 65_536),
        (b"", b"\r\n" * 32_768),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", b"x: y\r\n" * 10_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: ", b"a" * 65_536),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5;e=", b"a" * 65_536),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 10_000),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(65_536)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", bytes(65_536)),
    ],
    ids=[
        "url",
        "value",
        "headers",
        "name",
        "blank lines",
        "trailers",
        "trailer",
        "chunk extension",
        "crumbs",
        "h2",
        "tls",
    ],
)
def test_an_endless_head_is_cut_off_and_takes_no_memory(server: ServerProcess, beginning: bytes, piece: bytes) -> None:
    before = server.memory_mb()
    with RawConnection(server.port, beginning) as connection:
        sent = 0
        while sent < 60_000_000 and connection.send(piece):
            sent += len(piece)
        assert sent < 60_000_000
    assert server.memory_mb() < before + 10
    assert httpx.get(f"{server.url}/livez").status_code == 200


def test_a_request_in_small_pieces_is_answered(server: ServerProcess, jpeg: bytes) -> None:
    request = POST + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg
    with RawConnection(server.port) as connection:
        for at in range(0, len(request), 97):
            assert connection.send(request[at : at + 97])
        assert connection.status() == 200


def test_a_chunked_body_is_accepted(server: ServerProcess, jpeg: bytes) -> None:
    chunks = [jpeg[at : at + 1_000] for at in range(0, len(jpeg), 1_000)]
    answer = httpx.post(f"{server.url}/pose", content=iter(chunks))
    assert answer.status_code == 200


def test_a_client_that_reads_only_after_sending_gets_the_response(server: ServerProcess) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda path: httpx.post(f"{server.url}{path}", content=bytes(10_000_000)), ["/models"] * 4)
        assert [answer.status_code for answer in answers] == [405] * 4


# Pipelining


def test_pipelined_requests_are_answered_in_order(server: ServerProcess) -> None:
    with RawConnection(server.port, (GET + b"\r\n") * 12) as connection:
        assert [connection.status() for _ in range(12)] == [200] * 12


def test_with_too_many_pipelined_requests_the_first_are_answered_and_the_connection_closes(
    server: ServerProcess,
) -> None:
    with RawConnection(server.port, (GET + b"\r\n") * 500) as connection:
        statuses = [connection.status() for _ in range(500)]
    answered = statuses.count(200)
    assert 1 <= answered < 500
    assert statuses == [200] * answered + [0] * (500 - answered)


@pytest.mark.parametrize("reads", [True, False])
def test_a_flood_of_pipelined_requests_takes_no_memory(server: ServerProcess, reads: bool) -> None:
    before = server.memory_mb()
    for _ in range(10):
        with RawConnection(server.port) as connection:
            while connection.send((GET + b"\r\n") * 20_000):
                if reads:
                    connection.status()
    assert server.memory_mb() < before + 10


@pytest.mark.parametrize("resets", [True, False])
def test_requests_that_are_refused_before_their_body_is_read_leave_no_memory_behind(
    server: ServerProcess, resets: bool
) -> None:
    body = bytes(200_000)
    request = b"POST /pose HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    before = server.memory_mb()
    with ExitStack() as stack:
        for _ in range(400):
            connection = stack.enter_context(RawConnection(server.port, request + body))
            assert connection.status() == 415
            if resets:
                connection.reset()
        assert server.memory_mb() < before + 20


# Time


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 0),
        (b"\r\n\r\n", 0),
        (b"POST /po", 408),
        (GET, 408),
        (GET + b"X-A: ", 408),
        (POST + b"Content-Length: 1000\r\n\r\n", 408),
        (POST + b"Content-Length: 1000\r\n\r\n\xff\xd8", 408),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n", 408),
        (b"GET /models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 200),
        (b"POST /pose?timeout_ms=600 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 408),
    ],
)
@pytest.mark.parametrize("drip", [b"", b"\n"], ids=["silent", "dripping"])
def test_an_incomplete_request_is_ended(impatient: ServerProcess, sent: bytes, status: int, drip: bytes) -> None:
    with RawConnection(impatient.port, sent) as connection:
        if drip:
            for _ in range(8):
                time.sleep(0.2)
                connection.send(drip)
        assert connection.status() in ({status} if not drip else {status, 0, 400})
        assert connection.ended()


def test_a_slow_upload_is_ended_before_its_deadline(impatient: ServerProcess) -> None:
    with RawConnection(impatient.port, POST + b"Content-Length: 1000000\r\n\r\n") as connection:
        while connection.send(b"a" * 500):
            time.sleep(0.1)
        assert connection.status() in (408, 0)


def test_a_client_that_does_not_read_a_large_response_is_cut_off(impatient: ServerProcess) -> None:
    request = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with RawConnection(impatient.port, request * 4, receive_buffer=4096) as connection:
        time.sleep(3)
        assert connection.ended()
    wait_for(lambda: counted(impatient, "connections") <= 1)


# Connections


def test_silent_connections_are_evicted_for_new_ones(impatient: ServerProcess, crowd: Crowd) -> None:
    silent = crowd(impatient.port, 36)  # the most that a trusted proxy may have
    silent += crowd(impatient.port, 4, source="127.0.0.98")
    for number in range(2, 30):
        with RawConnection(impatient.port, GET + b"\r\n", source=f"127.0.0.{number}") as connection:
            assert connection.status() == 200
    assert all(connection.ended() for connection in silent)
    assert any("the longest idle one was closed" in line for line in impatient.log)


def test_one_address_is_limited_to_its_share(impatient: ServerProcess, crowd: Crowd) -> None:
    mine = crowd(impatient.port, 25, source="127.0.0.99")
    assert [connection.status() for connection in mine[20:]] == [429] * 5
    with RawConnection(impatient.port, GET + b"\r\n", source="127.0.0.98") as other:
        assert other.status() == 200
    assert counted(impatient, "connections_refused_total") >= 5


def test_incomplete_bodies_do_not_count_as_requests_under_way(
    impatient: ServerProcess, jpeg: bytes, crowd: Crowd
) -> None:
    crowd(impatient.port, 16, POST + b"Content-Length: 1000\r\n\r\n\xff\xd8", source="127.0.0.99")
    assert httpx.post(f"{impatient.url}/pose", content=jpeg).status_code == 200


def test_bodies_of_one_client_are_limited_to_its_share_of_memory(
    impatient: ServerProcess, jpeg: bytes, crowd: Crowd
) -> None:
    large = POST + b"Content-Length: 15000000\r\n\r\n\xff\xd8"
    crowd(impatient.port, 1, large, source="127.0.0.99")
    time.sleep(0.2)
    with RawConnection(impatient.port, large, source="127.0.0.99") as second:
        assert second.status() == 429
    assert httpx.post(f"{impatient.url}/pose", content=jpeg).status_code == 200


# Upgrades


@pytest.mark.parametrize("upgrade", [b"h2c", b"h2c, websocket", b"TLS/1.0", b"foo"])
def test_an_unsupported_upgrade_is_ignored(server: ServerProcess, jpeg: bytes, upgrade: bytes) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %b\r\nHTTP2-Settings: AAMAAABk\r\n" % upgrade
    request = POST + offer + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg
    with RawConnection(server.port, request * 2 + GET + b"\r\n") as connection:
        assert [connection.status() for _ in range(3)] == [200] * 3


def test_an_unsupported_upgrade_before_a_chunked_body_is_ignored(server: ServerProcess, jpeg: bytes) -> None:
    request = POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    with RawConnection(server.port, request) as connection:
        for at in range(0, len(jpeg), 5_000):
            piece = jpeg[at : at + 5_000]
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")
        assert connection.status() == 200


def test_a_pipelined_websocket_handshake_is_refused(server: ServerProcess, jpeg: bytes) -> None:
    upgrade = b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with RawConnection(server.port, POST + b"Content-Length: %d\r\n\r\n" % len(jpeg) + jpeg + upgrade) as connection:
        assert connection.ended()
    assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.parametrize("header", [b"X-A: " + b"a" * 20_000, b"Sec-WebSocket-Protocol: " + b"a," * 8_000])
def test_a_websocket_handshake_with_a_long_header_is_refused(server: ServerProcess, header: bytes) -> None:
    upgrade = b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + header
    upgrade += b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    errors = len([line for line in server.log if "Traceback" in line])
    with RawConnection(server.port, upgrade) as connection:
        assert connection.status() in (400, 431)
        assert connection.ended()
    assert len([line for line in server.log if "Traceback" in line]) == errors


def test_half_sent_frames_of_one_client_are_limited_to_its_share_of_memory(
    impatient: ServerProcess, jpeg: bytes
) -> None:
    """Five frames of 7.9 MB without their last byte exceed a share of 20 MB."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(RawSocket(impatient.port)) for _ in range(5)]
        for socket in sockets:
            socket.send_text("{}")
            socket.until(1)
        for socket in sockets:
            with suppress(OSError):  # the server closes sockets that there is no room for while they send
                socket.send(2, bytes(7_900_000), length=7_900_001)
        wait_for(lambda: len(select(sockets, [], [], 0)[0]) >= 3)
        codes = {socket.until(8).code for socket in select(sockets, [], [], 0)[0]}
        assert 1013 in codes
        assert codes <= {1013, 1006}
        assert httpx.post(f"{impatient.url}/pose", content=jpeg).status_code in (200, 429)
    assert httpx.post(f"{impatient.url}/pose", content=jpeg).status_code == 200
