"""Hostile input, overload, and clients that disconnect. tests/benchmarks has longer versions."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.benchmarks.bad_input import bombard
from tests.benchmarks.load import Shot, closed_loop
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def counted(server: ServerProcess, metric: str) -> float:
    """The sum of a metric over its labels."""
    text = httpx.get(f"{server.url}/metrics").text
    return sum(float(value) for value in re.findall(rf"^posewire_{metric}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def test_bad_requests_get_the_right_errors_and_do_not_affect_good_ones(server: ServerProcess) -> None:
    files, log = server.open_files(), len(server.log)
    tally = asyncio.run(bombard(server.port, 300))
    assert [complaint for wrong in tally.wrong.values() for complaint in wrong] == []
    assert tally.unready == 0
    assert server.process.poll() is None
    assert counted(server, "worker_restarts_total") == 0
    assert not [line for line in server.log[log:] if '"level":"error"' in line]
    wait_for(lambda: server.open_files() <= files + 2)


@pytest.fixture
def limited(catalogue: Path) -> Iterator[ServerProcess]:
    """A server that estimates at most 50 images a second, however busy the machine is."""
    environment = {"service_ms": 20, "service_batch": 1}
    with ServerProcess(
        "--model", "tiny", catalogue=catalogue, environment=environment, module="tests.slow_server"
    ) as s:
        yield s


def test_overload_is_refused_and_leaves_nothing_behind(limited: ServerProcess) -> None:
    shot = Shot(encoded(photo(), quality=90), "/pose?timeout_ms=600")
    report = closed_loop(limited.port, [shot], concurrency=64, seconds=2)
    counts = {status: len(times) for status, times in report.latencies.items()}
    assert counts.keys() <= {200, 503, 504}
    assert counts[200] > 0
    assert counts[503] > 10 * counts.get(504, 0)  # requests that cannot be done in time are refused at once
    wait_for(lambda: counted(limited, "queue_depth") == 0)
    assert httpx.post(f"{limited.url}/pose", content=shot.body).status_code == 200


def test_a_refusal_has_retry_after_and_does_not_wait_for_the_body(ending: ServerProcess) -> None:
    large = [("image", encoded(photo(3000, 2000)))] * 8
    head = b"POST /pose?timeout_ms=20 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9000\r\n\r\n"
    enough = threading.Event()

    def crowd() -> None:
        while not enough.is_set():
            httpx.post(f"{ending.url}/pose", files=large, timeout=60)

    def ask_with_a_short_deadline() -> str:
        with socket.create_connection(("127.0.0.1", ending.port), timeout=10) as connection:
            connection.sendall(head)
            received = b""
            while b"}" not in received:  # head and body may arrive separately
                received += connection.recv(10_000)
        return received.decode()

    clients = [threading.Thread(target=crowd) for _ in range(4)]
    for client in clients:
        client.start()
    wait_for(lambda: counted(ending, "queue_depth") > 4)
    answers = [ask_with_a_short_deadline() for _ in range(5)]
    enough.set()
    for client in clients:
        client.join()
    # Between two requests of the crowd there may be capacity; then the server waits for the body in vain.
    refused = [answer for answer in answers if answer.startswith("HTTP/1.1 503")]
    assert len(refused) >= 3
    for answer in refused:
        assert int(re.findall(r"(?mi)^retry-after: (\d+)", answer)[0]) >= 1
        assert '"/problems/overloaded"' in answer


@pytest.fixture
def ending(catalogue: Path) -> Iterator[ServerProcess]:
    """A server with two stages and a short drain and grace time."""
    environment = {"drain_seconds": 0.2, "grace_seconds": 3}
    with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as running:
        yield running


def test_sigterm_waits_for_slow_requests_but_not_for_slow_clients(ending: ServerProcess) -> None:
    large = encoded(photo(3000, 2000))
    files = [("image", large)] * 8
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{ending.url}/pose", files=files, timeout=30))

    with (
        httpx.Client(base_url=ending.url) as idle,
        socket.create_connection(("127.0.0.1", ending.port)) as silent,
        socket.create_connection(("127.0.0.1", ending.port)) as half,
    ):
        idle.get("/livez")
        half.sendall(b"POST /pose?timeout_ms=60000 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        wait_for(lambda: counted(ending, "queue_wait_seconds_count") > 3)  # all three are under way
        ending.process.send_signal(signal.SIGTERM)
        assert ending.process.wait(30) == 0
        for client in clients:
            client.join()
        assert [answer.status_code for answer in answers] == [200] * 3
        assert [[len(entry["people"]) for entry in answer.json()] for answer in answers] == [[2] * 8] * 3
        assert silent.recv(100) == b""
        assert half.recv(100).startswith((b"HTTP/1.1 408", b"HTTP/1.1 5"))


def test_clients_that_disconnect_are_not_errors(server: ServerProcess, client: httpx.Client) -> None:
    def disconnected() -> float:
        counts = re.findall(r'posewire_requests_total{route="/pose",status="499"} (\S+)', client.get("/metrics").text)
        return sum(map(float, counts))

    large = encoded(photo(3000, 2000), "PNG")
    head = f"POST /pose HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n".encode()
    before = disconnected()
    for sent in (head + large, head + large[:1000]):  # while it waits for the answer; while it sends
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
    wait_for(lambda: disconnected() == before + 2)
    assert [line for line in server.log if '"level":"error"' in line] == []
