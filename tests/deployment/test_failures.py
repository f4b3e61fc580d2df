"""Replicas that die, drain, hang and come back, and the effect on their clients."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.deployment.fleet import Fleet
from tests.deployment.programs import needs_haproxy
from tests.streaming import stream
from tests.waiting import wait_for

pytestmark = needs_haproxy

_LOST = 0


@pytest.fixture
def fleet(fleet: Fleet) -> Fleet:
    """Two running replicas, restored after the test before."""
    fleet.mend()
    return fleet


@contextmanager
def clients(fleet: Fleet, jpeg: bytes) -> Iterator[Counter[int]]:
    """Run four clients that post stills in a loop; yields the counts of their statuses, and of `_LOST`.

    A still whose replica is lost gets a 502 if it was the first on its connection. On later ones HAProxy closes the
    connection instead, because clients then repeat the request by themselves.
    """
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def post() -> None:
        with httpx.Client(base_url=fleet.url, timeout=30) as client:
            while not stop.is_set():
                try:
                    status = client.post("/pose", content=jpeg).status_code
                except httpx.RemoteProtocolError:
                    status = _LOST
                statuses[_LOST if status == 502 else status] += 1

    threads = [threading.Thread(target=post, name=f"client-{n}") for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        await_more(statuses, 20)
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def await_more(statuses: Counter[int], answers: int = 40) -> None:
    """Wait for this many more good responses."""
    before = statuses[200]
    wait_for(lambda: statuses[200] >= before + answers)


def test_a_draining_replica_loses_no_still(fleet: Fleet, jpeg: bytes) -> None:
    with clients(fleet, jpeg) as statuses:
        leaving = fleet.replicas[0]
        leaving.process.send_signal(signal.SIGTERM)
        fleet.balancer.wait_state(leaving.host, "NOLB")  # it gets no new requests, and keeps those that it has
        assert leaving.process.wait(20) == 0
        fleet.balancer.wait_state(leaving.host, "DOWN")
        await_more(statuses)
        fleet.mend()
        await_more(statuses)
    assert set(statuses) == {200}


def test_a_killed_replica_loses_only_the_requests_under_way(fleet: Fleet, jpeg: bytes) -> None:
    with clients(fleet, jpeg) as statuses:
        fleet.replicas[0].process.kill()
        await_more(statuses)
        fleet.balancer.wait_state(fleet.replicas[0].host, "DOWN")
        await_more(statuses)
    assert set(statuses) <= {200, _LOST}
    assert statuses[_LOST] <= 8  # the requests under way, and those that arrived while it died


def test_a_hanging_replica_gets_no_requests_until_it_continues(fleet: Fleet, jpeg: bytes) -> None:
    hanging = fleet.replicas[0]
    with clients(fleet, jpeg) as statuses:
        hanging.process.send_signal(signal.SIGSTOP)
        fleet.balancer.wait_state(hanging.host, "DOWN")
        await_more(statuses)
        hanging.process.send_signal(signal.SIGCONT)
        fleet.balancer.wait_state(hanging.host, "UP")
        before = fleet.balancer.totals("stills")[hanging.host]
        wait_for(lambda: fleet.balancer.totals("stills")[hanging.host] > before)
    assert set(statuses) <= {200, _LOST}
    assert statuses[_LOST] <= 4  # the requests under way, which HAProxy has ended


def test_streams_of_a_hanging_replica_are_ended_so_that_they_can_continue_elsewhere(fleet: Fleet, jpeg: bytes) -> None:
    async def watch() -> None:
        async with stream(fleet.port, path="/stream?session=camera") as opened:
            await opened.ask(jpeg)
            [holder] = [host for host, row in fleet.balancer.servers("streams").items() if row["scur"] == "1"]
            hanging = next(replica for replica in fleet.replicas if replica.host == holder)
            hanging.process.send_signal(signal.SIGSTOP)
            assert (await opened.ending())[0] == 1006  # without a close frame
        async with stream(fleet.port, path="/stream?session=camera") as again:
            assert "people" in await again.ask(jpeg)

    asyncio.run(watch())


def test_a_stream_of_a_killed_replica_starts_again_on_another(fleet: Fleet, jpeg: bytes) -> None:
    async def watch() -> None:
        for number in range(4):  # on any replica
            path = f"/stream?session=camera{number}"
            async with stream(fleet.port, path=path) as opened:
                assert "people" in await opened.ask(jpeg)
        fleet.replicas[0].process.kill()
        fleet.replicas[0].process.wait()
        for number in range(4):  # HAProxy has not noticed yet
            async with stream(fleet.port, path=f"/stream?session=camera{number}") as again:
                assert "people" in await again.ask(jpeg)

    asyncio.run(watch())


def test_new_replicas_are_found_by_dns_and_removed_ones_are_dropped(fleet: Fleet, jpeg: bytes) -> None:
    with clients(fleet, jpeg) as statuses:
        fleet.scale(3)
        newest = fleet.replicas[2].host
        fleet.balancer.wait_state(newest, "UP")
        wait_for(lambda: fleet.balancer.totals("stills")[newest] > 0)
        fleet.scale(2)
        fleet.balancer.wait_state(newest, "DOWN")
        await_more(statuses)
    assert set(statuses) == {200}
