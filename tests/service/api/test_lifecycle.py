"""Health, metrics, start and end of a server."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.waiting import wait_for


def test_models_and_skeletons_are_listed(client: httpx.Client) -> None:
    [model] = client.get("/models").json()
    assert (model["name"], model["default"], model["licence"], model["skeleton"]) == (
        "tiny",
        True,
        "Apache-2.0",
        "coco-17",
    )
    assert model["max_batch"]["tiny"] > 1
    assert model["queue"] == {"tiny": 0}
    by_name = {s["name"]: s for s in client.get("/skeletons").json()}
    assert len(by_name["coco-17"]["keypoints"]) == 17
    assert ["left_shoulder", "left_elbow"] in by_name["coco-17"]["limbs"]


def test_variables_that_set_nothing_are_named_at_the_start(live: ServerProcess, server: ServerProcess) -> None:
    """The first has one of its own, of which the real server knows nothing."""
    assert "ignored    POSEWIRE_SERVICE_MS, as there are no such settings" in live.log
    assert not any(line.startswith("ignored") for line in server.log)


def test_metrics_count_requests_batches_and_failures(client: httpx.Client, jpeg: bytes) -> None:
    client.post("/pose", content=jpeg)
    client.post("/pose", content=jpeg[:500])
    client.post("/pose", content=encoded(photo(), "PNG"))  # decoded by a process, behind a queue
    text = client.get("/metrics").text
    for line in (
        'posewire_requests_total{route="/pose",status="200"}',
        'posewire_requests_total{route="/pose",status="400"}',
        'posewire_decode_failures_total{problem="undecodable-image"}',
        'posewire_part_seconds_bucket{le="0.0005",part="queue"}',
        'posewire_batch_size_count{network="tiny"}',
        'posewire_queue_wait_seconds_count{network="decode-process"}',
        'posewire_queue_depth{network="tiny"}',
        "posewire_ready 1.0",
        'network="tiny",precision="',
        'posewire_precision_fallback{network="tiny"} 0.0',
    ):
        assert line in text
    for name in ("rejected", "cancelled", "worker_restarts", "expired", "failed"):
        assert f"# TYPE posewire_{name}_total counter" in text


def test_the_docs_describe_every_route_and_load_no_stranger_into_the_api(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/pose", "/models", "/skeletons", "/livez", "/readyz", "/metrics"} <= set(schema["paths"])
    body = schema["paths"]["/pose"]["post"]["requestBody"]["content"]
    assert {"image/jpeg", "multipart/form-data", "application/json"} <= set(body)
    assert client.get("/docs").status_code == 200


def test_every_request_is_a_json_log_line_with_its_id(server: ServerProcess, client: httpx.Client, jpeg: bytes) -> None:
    client.post("/pose", content=jpeg, headers={"X-Request-ID": "find-me"})
    wait_for(lambda: any("find-me" in line for line in server.log))
    line = json.loads(next(line for line in server.log if "find-me" in line))
    assert (line["message"], line["status"], line["request_id"]) == ("POST /pose 200", 200, "find-me")


def test_clients_that_leave_are_no_errors(server: ServerProcess, client: httpx.Client) -> None:
    def left() -> float:
        counts = re.findall(r'posewire_requests_total{route="/pose",status="499"} (\S+)', client.get("/metrics").text)
        return sum(map(float, counts))

    large = encoded(photo(3000, 2000), "PNG")
    head = f"POST /pose HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n".encode()
    before = left()
    for sent in (head + large, head + large[:1000]):  # while it waits for the answer; while it sends
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(sent)
    wait_for(lambda: left() == before + 2)
    assert [line for line in server.log if '"level":"error"' in line] == []


def test_sigterm_drops_readiness_first_answers_what_it_accepted_and_exits(catalogue: Path, jpeg: bytes) -> None:
    environment = {"drain_seconds": 4.0, "grace_seconds": 10}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as server:
        statuses: list[int] = []
        stop = threading.Event()

        def load() -> None:
            with httpx.Client(base_url=server.url, timeout=30) as client:
                while not stop.is_set():
                    statuses.append(client.post("/pose", content=jpeg).status_code)

        clients = [threading.Thread(target=load) for _ in range(4)]
        for thread in clients:
            thread.start()
        wait_for(lambda: len(statuses) > 20)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert httpx.get(f"{server.url}/readyz").json()["status"] == "draining"
        assert httpx.get(f"{server.url}/readyz?draining=404").status_code == 404
        assert httpx.get(f"{server.url}/livez").status_code == 200
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 4)  # it still serves: the load balancer needs time to notice
        stop.set()  # it has noticed
        for thread in clients:
            thread.join()
        assert server.process.wait(20) == 0
        assert set(statuses) == {200}


def test_a_port_that_is_taken_is_one_clear_line(server: ServerProcess, catalogue: Path) -> None:
    taken = ServerProcess("--model", "tiny", "--port", str(server.port), catalogue=catalogue)
    with pytest.raises(RuntimeError, match=r"cannot listen on 127\.0\.0\.1:.*choose another") as failure, taken:
        pass
    assert "Traceback" not in str(failure.value)


def test_two_workers_share_one_port_and_one_set_of_metrics(catalogue: Path, jpeg: bytes) -> None:
    with ServerProcess("--model", "tiny", "--workers", "2", catalogue=catalogue) as server:
        for _ in range(20):
            assert httpx.post(f"{server.url}/pose", content=jpeg).status_code == 200
        assert 'posewire_requests_total{route="/pose",status="200"} 20.0' in httpx.get(f"{server.url}/metrics").text


@pytest.mark.skipif(sys.platform != "linux", reason="denies a call of Linux")
def test_where_the_system_denies_lower_priorities_it_serves_all_the_same(catalogue: Path, jpeg: bytes) -> None:
    environment = {"denied": "setpriority"}
    with ServerProcess(
        "--model", "tiny", catalogue=catalogue, environment=environment, module="tests.denied_server"
    ) as server:
        assert httpx.post(f"{server.url}/pose", content=encoded(photo(), "PNG")).status_code == 200
        assert httpx.post(f"{server.url}/pose", content=jpeg).status_code == 200
        denials = [line for line in server.log if "lowering it is denied" in line]
        assert len(denials) == 4, "one for each queue: decode, decode-process, draw and tiny"
