"""Routing and limits of docker/haproxy.cfg in a real HAProxy, before real servers."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from service.api.problems import KINDS
from tests.deployment.balancer import CONFIGURATION, Balancer
from tests.deployment.fleet import Fleet
from tests.deployment.names import NameServer
from tests.deployment.programs import find, needs, needs_haproxy
from tests.streaming import stream
from tests.waiting import until, wait_for

pytestmark = needs_haproxy


def test_the_configuration_is_valid_without_a_warning() -> None:
    done = subprocess.run([str(find("haproxy")), "-c", "-f", str(CONFIGURATION)], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")


def test_stills_are_spread_over_the_replicas(fleet: Fleet, jpeg: bytes) -> None:
    before = fleet.balancer.totals("stills")
    with ThreadPoolExecutor(8) as pool, httpx.Client(base_url=fleet.url, timeout=30) as client:
        statuses = list(pool.map(lambda _: client.post("/pose", content=jpeg).status_code, range(40)))
    assert set(statuses) == {200}
    assert all(total >= before[host] + 10 for host, total in fleet.balancer.totals("stills").items())


def test_streams_without_a_session_are_spread_over_the_replicas(fleet: Fleet, jpeg: bytes) -> None:
    before = fleet.balancer.totals("streams")
    asyncio.run(look(fleet, jpeg, *[""] * 4))
    assert all(total > before[host] for host, total in fleet.balancer.totals("streams").items())


def test_a_session_returns_to_its_replica_and_resumes_from_memory(fleet: Fleet, jpeg: bytes) -> None:
    async def leave_and_return(session: str) -> bool:
        path = f"/stream?session={session}"
        async with stream(fleet.port, path=path) as opened:
            token = (await opened.ask(jpeg))["token"]
        async with stream(fleet.port, path=path, resume=token) as again:
            return bool(again.welcome["resumed"])

    def all_come_back() -> bool:  # by chance half of them would
        return all(asyncio.run(leave_and_return(f"camera{number}")) for number in range(8))

    def all_have_their_full_share() -> bool:  # it grows while a replica is new, and sessions move with it
        servers = fleet.balancer.servers("streams").values()
        return all((server["status"], server["weight"]) == ("UP", server["uweight"]) for server in servers)

    for _ in range(3):  # again if a replica was too busy with other tests to answer a check in time
        wait_for(all_have_their_full_share)
        failed = fleet.balancer.failed_checks("streams")
        if all_come_back():
            return
        assert fleet.balancer.failed_checks("streams") > failed
    pytest.fail("replicas were never up for long enough")


def test_replicas_get_the_address_of_the_client_and_none_of_its_own_headers(fleet: Fleet, jpeg: bytes) -> None:
    claims = {"X-Forwarded-For": "203.0.113.7", "X-Request-ID": "mine"}
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.99.0.9"), headers=claims) as client:
        answer = client.post(f"{fleet.url}/pose", content=jpeg)
    assert answer.headers["X-Request-ID"] == "mine"

    def lines() -> list[str]:
        return [line for replica in fleet.replicas for line in replica.log if '"mine"' in line]

    wait_for(lambda: bool(lines()))
    assert [json.loads(line)["client"] for line in lines()] == ["127.99.0.9"]


def test_every_request_gets_an_id_at_the_load_balancer(fleet: Fleet) -> None:
    assert len(httpx.get(f"{fleet.url}/models").headers["X-Request-ID"]) == 36


def test_metrics_are_not_shown_through_the_load_balancer(fleet: Fleet) -> None:
    answer = httpx.get(f"{fleet.url}/metrics")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


def test_haproxy_has_metrics_of_its_own(fleet: Fleet) -> None:
    text = httpx.get(f"{fleet.balancer.stats_url}/metrics").text
    assert 'haproxy_server_status{proxy="stills",server="replica1",state="UP"} 1' in text


def test_an_operator_can_drain_a_replica_through_the_runtime_api(fleet: Fleet, jpeg: bytes) -> None:
    fleet.balancer.command("set server stills/replica1 state drain")
    try:
        wait_for(lambda: sorted(fleet.balancer.states().values()) == ["DRAIN", "UP"])
        before = fleet.balancer.totals("stills")
        for _ in range(10):
            assert httpx.post(f"{fleet.url}/pose", content=jpeg).status_code == 200
        assert sorted(total - before[host] for host, total in fleet.balancer.totals("stills").items()) == [0, 10]
    finally:
        fleet.balancer.command("set server stills/replica1 state ready")


@needs("openssl", "openssl")
def test_with_a_certificate_there_are_https_and_wss(fleet: Fleet, jpeg: bytes, tmp_path: Path) -> None:
    host = fleet.replicas[0].host  # on another port
    make_certificate(tmp_path, host)
    tls = {"POSEWIRE_TLS_BIND": f"{host}:8443", "POSEWIRE_TLS_CERTIFICATE": str(tmp_path / "tls.pem")}
    trusting = ssl.create_default_context(cafile=tmp_path / "certificate.pem")

    async def look() -> str | None:
        async with connect(f"wss://{host}:8443/stream", ssl=trusting, compression=None) as socket:
            await socket.send("{}")
            assert json.loads(await socket.recv())["type"] == "welcome"
            secured: ssl.SSLObject = socket.transport.get_extra_info("ssl_object")
            return secured.version()

    with Balancer(f"posewire.test:{fleet.replicas[0].port}", fleet.names.address, tls) as balancer:
        for replica in fleet.replicas:
            balancer.wait_state(replica.host, "UP")
        assert httpx.post(f"https://{host}:8443/pose", content=jpeg, verify=trusting).status_code == 200
        assert asyncio.run(look()) == "TLSv1.3"


@needs("openssl", "openssl")
def test_a_renewed_certificate_is_loaded_at_sighup_and_no_connection_is_lost(
    fleet: Fleet, jpeg: bytes, tmp_path: Path
) -> None:
    host = fleet.replicas[0].host
    served = tmp_path / "served"
    served.mkdir()

    def renew() -> bytes:
        make_certificate(tmp_path, host)
        (tmp_path / "tls.pem").rename(served / "tls.pem")  # a new file in place of the old one
        return ssl.PEM_cert_to_DER_cert((tmp_path / "certificate.pem").read_text("utf-8"))

    def shown() -> bytes:
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, 8443)))

    async def watch(balancer: Balancer) -> None:
        async with stream(balancer.port) as opened:
            assert "people" in await opened.ask(jpeg)
            renewed = renew()
            balancer.process.send_signal(signal.SIGHUP)
            await until(lambda: shown() == renewed)
            assert "people" in await opened.ask(jpeg)  # by the old worker, which finishes its connections

    first = renew()
    tls = {"POSEWIRE_TLS_BIND": f"{host}:8443", "POSEWIRE_TLS_CERTIFICATE": str(served)}
    with Balancer(f"posewire.test:{fleet.replicas[0].port}", fleet.names.address, tls) as balancer:
        for replica in fleet.replicas:
            balancer.wait_state(replica.host, "UP")
        assert shown() == first
        asyncio.run(watch(balancer))


def make_certificate(folder: Path, address: str) -> None:
    """Make a self-signed certificate.pem for an address, and tls.pem with the certificate and its key."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=posewire", "-addext", f"subjectAltName=IP:{address}", "-days", "1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = ["openssl", "req", "-x509", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "tls.pem").write_bytes(certificate.read_bytes() + key.read_bytes())


@pytest.fixture
def alone() -> Iterator[Balancer]:
    """HAProxy without replicas, with low limits for a client."""
    limits = {"POSEWIRE_CLIENT_CONNECTIONS": "4", "POSEWIRE_CLIENT_REQUESTS": "5"}
    with NameServer() as names, Balancer("posewire.test:8000", names.address, limits) as balancer:
        yield balancer


def test_without_a_replica_the_answer_is_a_problem_document(alone: Balancer) -> None:
    answer = httpx.post(f"{alone.url}/pose", content=b"")
    assert (answer.status_code, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert answer.headers["Retry-After"] == "1"
    kind = KINDS[answer.json()["type"].removeprefix("/problems/")]
    assert (int(kind.status), kind.title) == (answer.status_code, answer.json()["title"])


def test_the_number_of_replicas_is_limited_by_the_variable() -> None:
    names = NameServer(f"127.98.0.{n}" for n in range(1, 21))
    with names, Balancer("posewire.test:8000", names.address, {"POSEWIRE_MOST_REPLICAS": "19"}) as balancer:
        wait_for(lambda: len(balancer.servers("stills")) == len(balancer.servers("streams")) == 19)


def test_a_client_with_too_many_requests_gets_429(alone: Balancer) -> None:
    answers = [httpx.get(f"{alone.url}/models") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [503] * 5 + [429] * 2
    assert answers[-1].json()["type"] == "/problems/rate-limited"
    assert answers[-1].headers["Retry-After"] == "5"


def test_a_client_that_opens_too_many_connections_is_cut_off(alone: Balancer) -> None:
    with ExitStack() as opened:
        assert [knock(alone, opened) for _ in range(6)] == [b"HTTP/1.1"] * 4 + [b""] * 2


def knock(balancer: Balancer, opened: ExitStack) -> bytes:
    """Return the first bytes of the response on a new connection, none if it was cut."""
    try:
        connection = opened.enter_context(socket.create_connection(("127.0.0.1", balancer.port), timeout=10))
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection.recv(8)
    except (BrokenPipeError, ConnectionResetError):
        return b""


def test_its_problem_types_are_those_of_the_api() -> None:
    documents = [json.loads(found) for found in re.findall(r"string '({.*})'", CONFIGURATION.read_text("utf-8"))]
    assert len(documents) >= 7
    for document in documents:
        name = document["type"].removeprefix("/problems/")
        assert name == "about:blank" or KINDS[name].status == document["status"]


async def look(fleet: Fleet, picture: bytes, *sessions: str) -> None:
    """Open a stream for each session, one after the other, and send one frame in each while all stay open."""
    async with AsyncExitStack() as stack:
        for session in sessions:
            path = f"/stream?session={session}" if session else "/stream"
            opened = await stack.enter_async_context(stream(fleet.port, path=path))
            assert "people" in await opened.ask(picture)
