"""Several workers: their cores, their metrics, replacements, and shutdown."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from pathlib import Path

import httpx
import pytest

from service.process.workers import core_groups
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.streaming import stream
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("cores", "workers", "groups"),
    [
        ([0, 1, 2, 3], 2, [{0, 1}, {2, 3}]),
        ([0, 1, 2, 3, 4], 2, [{0, 1}, {2, 3, 4}]),
        ([2, 5], 2, [{2}, {5}]),
        ([0, 1], 3, [{0}, {1}, {0}]),
        ([7], 1, [{7}]),
    ],
)
def test_workers_share_cores_only_if_there_are_too_few(cores: list[int], workers: int, groups: list[set[int]]) -> None:
    assert core_groups(cores, workers) == groups


def serve(folder: Path, drain: float = 5.0) -> ServerProcess:
    """Return a server with two workers."""
    environment = {"drain_seconds": drain, "grace_seconds": 10}
    arguments = ("--model", "tiny", "--workers", "2")
    return ServerProcess(*arguments, catalogue=tiny_catalogue(folder), environment=environment)


def started(server: ServerProcess) -> list[int]:
    """Return the process ids of all workers so far."""
    return [int(pid) for line in server.log for pid in re.findall(r"Started server process \[(\d+)\]", line)]


def ready(server: ServerProcess) -> int:
    """Return how many workers have become ready so far."""
    return sum("Application startup complete" in line for line in server.log)


def value(server: ServerProcess, name: str) -> float:
    """Return a metric, summed over all workers."""
    [found] = re.findall(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    return float(found)


def test_a_killed_worker_is_replaced_on_its_cores_and_its_gauges_are_dropped(tmp_path: Path) -> None:
    picture = encoded(photo())
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        for _ in range(10):
            assert httpx.post(f"{server.url}/pose", content=picture).status_code == 200
        before = started(server)
        cores = [os.sched_getaffinity(pid) for pid in before]
        assert set.union(*cores) == os.sched_getaffinity(0)

        async def scenario() -> None:
            async with stream(server.port) as opened:
                await opened.ask(picture)
                assert value(server, "posewire_streams") == 1
                for pid in before:  # one of them has the stream
                    os.kill(pid, signal.SIGKILL)
                await opened.ending()

        asyncio.run(scenario())
        wait_for(lambda: ready(server) == 4, 120)
        assert value(server, "posewire_streams") == 0
        assert value(server, 'posewire_requests_total{route="/pose",status="200"}') == 10  # counters stay
        after = [os.sched_getaffinity(pid) for pid in started(server)[2:]]
        assert sorted(map(sorted, after)) == sorted(map(sorted, cores))


def test_sigterm_to_the_supervisor_drains_all_workers_and_loses_no_still(tmp_path: Path) -> None:
    picture = encoded(photo())
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        statuses: list[int] = []
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():  # a new connection each, so that both workers get some
                statuses.append(httpx.post(f"{server.url}/pose", content=picture, timeout=30).status_code)

        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        wait_for(lambda: len(statuses) > 20)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 4)  # the load balancer needs time to notice
        stop.set()
        for client in clients:
            client.join()
        assert server.process.wait(20) == 0
        assert set(statuses) == {200}
        assert sum("Finished server process" in line for line in server.log) == 2


def runs(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """Return the child processes of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def test_workers_and_their_trackers_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    picture = encoded(photo())
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        processes = started(server)

        async def scenario() -> None:
            async with stream(server.port) as opened:
                await opened.ask(picture)
                processes.extend(child for pid in tuple(processes) for child in children(pid))
                assert len(processes) == 3
                server.process.kill()
                code, _ = await opened.ending()
                assert code in (1001, 1012), "the client is sent elsewhere, as after SIGTERM"

        asyncio.run(scenario())
        wait_for(lambda: not any(map(runs, processes)))
    assert sum("the supervisor is gone" in line for line in server.log) == 2


def test_workers_that_die_repeatedly_are_replaced_after_growing_delays(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        for turn in range(2, 5):
            os.kill(started(server)[-1], signal.SIGKILL)
            wait_for(lambda: len(started(server)) == turn + 1, 120)  # noqa: B023
        delays = [line.split("another starts in ")[1][:3] for line in server.log if "another starts in" in line]
        assert delays in (["0 s", "1 s", "2 s"], ["0 s", "0 s", "1 s"]), "of one worker, or of both"


def test_workers_run_on_any_core_if_the_system_denies_the_choice(tmp_path: Path) -> None:
    environment = {"denied": "sched_setaffinity"}
    arguments = ("--model", "tiny", "--workers", "2")
    catalogue = tiny_catalogue(tmp_path)
    with ServerProcess(
        *arguments, catalogue=catalogue, environment=environment, module="tests.denied_server"
    ) as server:
        wait_for(lambda: ready(server) == 2, 120)
        assert sum("runs on any core: Operation not permitted" in line for line in server.log) == 2
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_second_sigterm_ends_the_drain(tmp_path: Path) -> None:
    with serve(tmp_path, drain=600) as server:
        wait_for(lambda: ready(server) == 2, 120)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)  # of one worker at least
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
