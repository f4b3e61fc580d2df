"""Several workers: where they run, what they count together, and how they end."""

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
def test_workers_share_cores_only_where_there_are_too_few(
    cores: list[int], workers: int, groups: list[set[int]]
) -> None:
    assert core_groups(cores, workers) == groups


def serve(folder: Path, drain: float = 5.0) -> ServerProcess:
    """Two workers."""
    environment = {"drain_seconds": drain, "grace_seconds": 10}
    arguments = ("--model", "tiny", "--workers", "2")
    return ServerProcess(*arguments, catalogue=tiny_catalogue(folder), environment=environment)


def started(server: ServerProcess) -> list[int]:
    """The process ids of all workers so far."""
    return [int(pid) for line in server.log for pid in re.findall(r"Started server process \[(\d+)\]", line)]


def ready(server: ServerProcess) -> int:
    """How many workers have got ready so far."""
    return sum("Application startup complete" in line for line in server.log)


def value(server: ServerProcess, name: str) -> float:
    """A metric, of all workers together."""
    [found] = re.findall(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    return float(found)


def test_a_killed_worker_is_replaced_on_its_cores_and_its_streams_do_not_count_for_ever(tmp_path: Path) -> None:
    picture = encoded(photo())
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        for _ in range(10):
            assert httpx.post(f"{server.url}/pose", content=picture).status_code == 200
        before = started(server)
        cores = [os.sched_getaffinity(pid) for pid in before]
        assert set.union(*cores) == os.sched_getaffinity(0)

        async def story() -> None:
            async with stream(server.port) as opened:
                await opened.ask(picture)
                assert value(server, "posewire_streams") == 1
                for pid in before:  # one of them has it
                    os.kill(pid, signal.SIGKILL)
                await opened.ending()

        asyncio.run(story())
        wait_for(lambda: ready(server) == 4, 120)
        assert value(server, "posewire_streams") == 0
        assert value(server, 'posewire_requests_total{route="/pose",status="200"}') == 10  # what was, stays
        after = [os.sched_getaffinity(pid) for pid in started(server)[2:]]
        assert sorted(map(sorted, after)) == sorted(map(sorted, cores))


def test_sigterm_to_the_parent_drains_all_workers_and_loses_no_still(tmp_path: Path) -> None:
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
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_killed_supervisor_takes_its_workers_and_their_trackers_with_it(tmp_path: Path) -> None:
    picture = encoded(photo())
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        processes = started(server)

        async def story() -> None:
            async with stream(server.port) as opened:
                await opened.ask(picture)
                processes.extend(child for pid in tuple(processes) for child in children(pid))
                assert len(processes) == 3
                server.process.kill()
                code, _ = await opened.ending()
                assert code in (1001, 1012), "the stream's client is told to go elsewhere, as after SIGTERM"

        asyncio.run(story())
        wait_for(lambda: not any(map(runs, processes)))
    assert sum("the supervisor is gone" in line for line in server.log) == 2


def test_workers_that_die_again_and_again_are_started_after_ever_longer_pauses(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        wait_for(lambda: ready(server) == 2, 120)
        for turn in range(2, 5):
            os.kill(started(server)[-1], signal.SIGKILL)
            wait_for(lambda: len(started(server)) == turn + 1, 120)  # noqa: B023
        pauses = [line.split("another starts in ")[1][:3] for line in server.log if "another starts in" in line]
        assert pauses in (["0 s", "1 s", "2 s"], ["0 s", "0 s", "1 s"]), "of one worker, or of both"


def test_where_the_system_denies_the_choice_of_cores_workers_run_on_any(tmp_path: Path) -> None:
    environment = {"denied": "sched_setaffinity"}
    arguments = ("--model", "tiny", "--workers", "2")
    catalogue = tiny_catalogue(tmp_path)
    with ServerProcess(
        *arguments, catalogue=catalogue, environment=environment, module="tests.denied_server"
    ) as server:
        wait_for(lambda: ready(server) == 2, 120)
        assert sum("runs on any core: Operation not permitted" in line for line in server.log) == 2
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_a_second_sigterm_ends_the_wait(tmp_path: Path) -> None:
    with serve(tmp_path, drain=600) as server:
        wait_for(lambda: ready(server) == 2, 120)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
