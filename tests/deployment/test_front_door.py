"""Limits of one client at the load balancer, and that they protect other clients."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.deployment.fleet import Fleet
from tests.deployment.programs import needs_haproxy
from tests.streaming import stream
from tests.waiting import wait_for

pytestmark = needs_haproxy

PENDING, STREAMS = 3, 2
"""Limits of one address for each replica."""
GOOD, BAD = "127.99.0.1", "127.99.0.2"
"""The addresses of two clients."""
_UPGRADE = (
    b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SLOW = (
    b"POST /pose HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000\r\n\r\n\xff\xd8"
    + bytes(9000)
)
"""Enough of a body for HAProxy to connect to a replica."""


@pytest.fixture(scope="module")
def fleet(catalogue: Path) -> Iterator[Fleet]:
    """Two replicas, with low limits for an address."""
    limits = {
        "POSEWIRE_CLIENT_PENDING": str(PENDING),
        "POSEWIRE_CLIENT_STREAMS": str(STREAMS),
        "POSEWIRE_QUEUE_TIMEOUT": "20s",
    }
    with Fleet(2, "--model", "tiny", catalogue=catalogue, balancing=limits) as running:
        yield running


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/metrics",
            "/metrics?x=1",
            "/metrics/",
            "/METRICS",
            "/metrics;x",
            "/metrics#x",
            "/metrics%00",
            "/metrics%20",
        ),
        *(
            "/%6detrics",
            "/%6Detrics",
            "/metric%73",
            "/%2fmetrics",
            "%2fmetrics",
            "/%256detrics",
            "/metrics%3fx",
            "/%zzmetrics",
        ),
        *(
            "//metrics",
            "/./metrics",
            "/x/../metrics",
            "/%2e/metrics",
            "/x/%2e%2e/metrics",
            "/..%2fmetrics",
            "\\metrics",
        ),
        *("http://x/metrics", "http://x/%6detrics", "http://x//metrics", "//x/metrics", "HTTP://x/metrics"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_spelling_of_the_path_shows_the_metrics(fleet: Fleet, method: str, target: str) -> None:
    status, body = ask(
        fleet, f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    assert status in (400, 404)
    assert b"# HELP" not in body


def test_replicas_do_not_show_their_metrics_through_any_load_balancer(fleet: Fleet) -> None:
    url = f"{fleet.replicas[0].url}/metrics"
    assert "posewire_ready" in httpx.get(url).text
    for header in ("X-Forwarded-For", "Forwarded"):
        answer = httpx.get(url, headers={header: "for=192.0.2.1"})
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


@pytest.mark.parametrize("path", ["/", "/client.js", "/page/main.js"])
def test_the_page_passes_the_load_balancer_with_its_headers(fleet: Fleet, path: str) -> None:
    answer, direct = httpx.get(fleet.url + path), httpx.get(fleet.replicas[0].url + path)
    assert (answer.status_code, answer.content) == (200, direct.content)
    for name in ("content-type", "etag", "cache-control", "content-security-policy", "x-content-type-options"):
        assert answer.headers.get(name) == direct.headers.get(name)


@pytest.mark.parametrize("path", ["/stream", "/%73tream", "/str%65am?session=a"])
def test_a_stream_counts_as_a_stream_however_its_path_is_spelled(fleet: Fleet, path: str) -> None:
    before = sum(fleet.balancer.totals("streams").values())
    with ExitStack() as opened:
        connect(fleet, BAD, opened).sendall(_UPGRADE.replace(b"/stream", path.encode()))
        wait_for(lambda: sum(fleet.balancer.totals("streams").values()) == before + 1)


def test_slow_bodies_of_one_address_do_not_block_others(fleet: Fleet, jpeg: bytes) -> None:
    most = PENDING * len(fleet.replicas)
    with ExitStack() as opened:
        for _ in range(most):
            connect(fleet, BAD, opened).sendall(_SLOW)
        wait_for(lambda: in_use(fleet, "stills") == most)
        assert post(fleet, BAD, jpeg).status_code == 429
        assert post(fleet, GOOD, jpeg).status_code == 200
    wait_for(lambda: in_use(fleet, "stills") == 0)
    assert post(fleet, BAD, jpeg).status_code == 200


def test_a_request_without_a_body_byte_reaches_no_replica(fleet: Fleet) -> None:
    before = sum(fleet.balancer.totals("stills").values())
    with ExitStack() as opened:
        waiting = connect(fleet, BAD, opened)
        waiting.sendall(_SLOW[:-9000])
        assert httpx.get(f"{fleet.url}/models").status_code == 200  # by now HAProxy has read the headers
        assert sum(fleet.balancer.totals("stills").values()) == before + 1
        waiting.settimeout(15)
        assert waiting.recv(12) == b"HTTP/1.1 408"


def test_silent_streams_of_one_address_do_not_block_others(fleet: Fleet, jpeg: bytes) -> None:
    async def look() -> None:
        async with stream(fleet.port) as opened:  # from 127.0.0.1
            assert "people" in await opened.ask(jpeg)

    most = STREAMS * len(fleet.replicas)
    with ExitStack() as opened:
        for _ in range(most):
            silent = connect(fleet, BAD, opened)
            silent.sendall(_UPGRADE)
            assert silent.recv(12) == b"HTTP/1.1 101"
        refused = connect(fleet, BAD, opened)
        refused.sendall(_UPGRADE)
        assert refused.recv(12) == b"HTTP/1.1 429"
        asyncio.run(look())


def test_queued_requests_of_a_client_with_few_go_first(fleet: Fleet) -> None:
    with ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        for number in (1, 2):
            fleet.balancer.command(f"set maxconn server stills/replica{number} 1")
            opened.callback(fleet.balancer.command, f"set maxconn server stills/replica{number} 1024")
        slow = [connect(fleet, BAD, opened) for _ in range(6)]
        for connection in slow[:2]:
            connection.sendall(_SLOW)
        wait_for(lambda: in_use(fleet, "stills") == 2)  # HAProxy may serve connections out of order
        for connection in slow[2:]:
            connection.sendall(_SLOW)
        wait_for(lambda: queued(fleet) == 4)
        answer = pool.submit(ask, fleet, "GET /models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", GOOD)
        wait_for(lambda: queued(fleet) == 5)
        slow[0].close()
        assert answer.result()[0] == 200


def test_aborted_requests_mark_no_replica_down(fleet: Fleet) -> None:
    def downs() -> int:
        backends = ("stills", "streams")
        return sum(int(row["chkdown"]) for name in backends for row in fleet.balancer.servers(name).values())

    before = downs()
    beginnings = (
        _SLOW,
        _UPGRADE,
        _UPGRADE + b"\x82\xfe",
        b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01",
        b"",
    )
    for beginning in beginnings * 20:
        with ExitStack() as opened:
            connection = connect(fleet, BAD, opened)
            connection.sendall(beginning)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed by a reset
    wait_for(lambda: in_use(fleet, "stills") == in_use(fleet, "streams") == 0)
    assert downs() == before
    assert set(fleet.balancer.states().values()) == set(fleet.balancer.states("streams").values()) == {"UP"}


def ask(fleet: Fleet, request: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Send a raw request, and return the status and the rest of the response."""
    with socket.create_connection(("127.0.0.1", fleet.port), timeout=20, source_address=(host, 0)) as connection:
        connection.sendall(request.encode("latin-1"))
        with connection.makefile("rb") as answer:
            return int(answer.readline().split()[1]), answer.read()


def connect(fleet: Fleet, host: str, opened: ExitStack) -> socket.socket:
    """Open a connection to HAProxy from an address of the loopback."""
    connection = socket.create_connection(("127.0.0.1", fleet.port), timeout=10, source_address=(host, 0))
    return opened.enter_context(connection)


def post(fleet: Fleet, host: str, content: bytes) -> httpx.Response:
    """Post an image from an address of the loopback, and return the response."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=host), timeout=20) as client:
        return client.post(f"{fleet.url}/pose", content=content)


def in_use(fleet: Fleet, backend: str) -> int:
    """Return the number of connections to replicas now."""
    return sum(int(row["scur"]) for row in fleet.balancer.servers(backend).values())


def queued(fleet: Fleet) -> int:
    """Return the number of stills that wait for any replica, or for a certain one."""
    lines = fleet.balancer.command("show stat stills 7 -1").splitlines()
    names = lines[0].removeprefix("# ").split(",")
    return sum(int(line.split(",")[names.index("qcur")] or 0) for line in lines[1:] if "BACKEND" in line)
