"""The start, the housekeeping and the end of a server."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest

from engines.runtimes.base import RuntimeSpec
from service.api.app import create_app
from service.config import Settings
from service.inference.model_registry import Serving
from service.inference.plan_builder import PlanBuilder
from tests.failing_server import STEPS
from tests.graphs import tiny_catalogue
from tests.instant import run
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.waiting import until, wait_for

pytestmark = pytest.mark.slow


def test_unknown_variables_are_named_in_the_banner(live: ServerProcess, server: ServerProcess) -> None:
    """`live` runs with a variable of its own that is no setting."""
    assert "ignored    POSEWIRE_SERVICE_MS, as there are no such settings" in live.log
    assert not any(line.startswith("ignored") for line in server.log)


def test_sigterm_fails_readyz_first_then_answers_accepted_requests_and_exits(catalogue: Path, jpeg: bytes) -> None:
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
        wait_for(lambda: len(statuses) > before + 4)  # it still serves, as the load balancer needs time to notice
        stop.set()  # the load balancer has noticed
        for thread in clients:
            thread.join()
        assert server.process.wait(20) == 0
        assert set(statuses) == {200}


def test_a_second_ctrl_c_ends_the_server_at_once_and_without_a_traceback(catalogue: Path) -> None:
    with (
        ServerProcess("--model", "tiny", catalogue=catalogue) as server,
        socket.create_connection((server.host, server.port)) as slow,
    ):
        head = b"POST /pose HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n"
        slow.sendall(head)
        assert slow.recv(1000).startswith(b"HTTP/1.1 100 ")  # the request is under way
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: any("Waiting for connections to close" in line for line in server.log))
        server.process.send_signal(signal.SIGINT)
        server.process.wait(60)
        wait_for(lambda: any("ends without waiting for its clients" in line for line in server.log))
        assert "Traceback" not in "\n".join(server.log)


def test_a_port_in_use_is_reported_in_one_line(server: ServerProcess, catalogue: Path) -> None:
    taken = ServerProcess("--model", "tiny", "--port", str(server.port), catalogue=catalogue)
    with pytest.raises(RuntimeError, match=r"cannot listen on 127\.0\.0\.1:.*choose another") as failure, taken:
        pass
    assert "Traceback" not in str(failure.value)


def test_two_workers_share_a_port_and_add_up_their_metrics(catalogue: Path, jpeg: bytes) -> None:
    with ServerProcess("--model", "tiny", "--workers", "2", catalogue=catalogue) as server:
        for _ in range(20):
            assert httpx.post(f"{server.url}/pose", content=jpeg).status_code == 200
        assert 'posewire_requests_total{route="/pose",status="200"} 20.0' in httpx.get(f"{server.url}/metrics").text


@pytest.mark.skipif(sys.platform != "linux", reason="denies a system call of Linux")
def test_the_server_works_where_the_system_denies_lower_priorities(catalogue: Path, jpeg: bytes) -> None:
    environment = {"denied": "setpriority"}
    with ServerProcess(
        "--model", "tiny", catalogue=catalogue, environment=environment, module="tests.denied_server"
    ) as server:
        assert httpx.post(f"{server.url}/pose", content=encoded(photo(), "PNG")).status_code == 200
        assert httpx.post(f"{server.url}/pose", content=jpeg).status_code == 200
        denials = [line for line in server.log if "lowering it is denied" in line]
        assert len(denials) == 5, "one for each queue: decode, decode-process, decode-video, draw and tiny"


class FailingRuntime:
    """A runtime that fails to release memory. releases: how often it was asked to."""

    spec = RuntimeSpec((), (), (1,), 1, "cpu", "fp32")

    def __init__(self) -> None:
        self.releases = 0

    def release(self, *, unused: bool = False) -> None:  # noqa: ARG002 - the signature is the protocol's
        self.releases += 1
        raise RuntimeError("it is mine")

    def close(self) -> None:
        """Nothing to free."""


def test_housekeeping_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    runtime = FailingRuntime()
    serving = Serving({}, (), {"failing": runtime}, {}, PlanBuilder(()))  # type: ignore[dict-item]  # it never runs a batch

    async def scenario() -> None:
        app = create_app(Settings(), lambda _: serving).app
        async with app.router.lifespan_context(app):
            await until(lambda: runtime.releases >= 2)

    run(scenario())
    assert {str(record.exc_info[1]) for record in caplog.records if record.exc_info} == {"it is mine"}


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def started(server: ServerProcess) -> list[int]:
    """The ids of the processes of a server, from its log."""
    return [int(pid) for line in server.log for pid in re.findall(r"(?:tracker |server process \[)(\d+)", line)]


@linux
@pytest.mark.parametrize("step", STEPS)
def test_a_failed_start_ends_all_processes_started_before(step: str, catalogue: Path) -> None:
    failing = ServerProcess(
        "--model", "tiny", catalogue=catalogue, environment={"test_step": step}, module="tests.failing_server"
    )
    with pytest.raises(RuntimeError, match="the server ended at its start"), failing:
        pass
    assert failing.process.returncode not in (0, None)
    assert any("the server cannot start: no such luck" in line for line in failing.log)
    assert len(started(failing)) == 2
    assert not [pid for pid in started(failing) if runs(pid)]


@linux
@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_opened_ends_the_server_and_leaves_no_process(workers: int, tmp_path: Path) -> None:
    catalogue = tiny_catalogue(tmp_path)
    shutil.copy(catalogue, tmp_path / "tiny.xml")  # not a graph
    failing = ServerProcess("--model", "tiny", "--workers", str(workers), catalogue=catalogue)
    with pytest.raises(RuntimeError, match="the server ended at its start"), failing:
        pass
    assert failing.process.returncode not in (0, None)
    assert any("the server cannot start: " in line for line in failing.log)
    assert started(failing)
    assert not [pid for pid in started(failing) if runs(pid)]
