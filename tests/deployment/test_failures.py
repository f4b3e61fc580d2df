"""Replicas that die, leave, hang and come back, and what their clients notice of it."""

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
    """Two replicas, whatever the test before has done to them."""
    fleet.mend()
    return fleet


@contextmanager
def clients(fleet: Fleet, jpeg: bytes) -> Iterator[Counter[int]]:
    """Four clients that post one still after the other; the statuses that they get, and _LOST.

    A still whose replica is lost gets a 502 if it was the first on its connection. Later ones have their connection
    closed instead, for HAProxy knows that clients then send a request again by themselves.
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
    """Wait for so many good answers more."""
    before = statuses[200]
    wait_for(lambda: statuses[200] >= before + answers)


def test_a_replica_that_leaves_costs_no_still(fleet: Fleet, jpeg: bytes) -> None:
    with clients(fleet, jpeg) as statuses:
        leaving = fleet.replicas[0]
        leaving.process.send_signal(signal.SIGTERM)
        fleet.balancer.wait_state(leaving.host, "NOLB")  # it gets nothing new, and keeps what it has
        assert leaving.process.wait(20) == 0
        fleet.balancer.wait_state(leaving.host, "DOWN")
        await_more(statuses)
        fleet.mend()
        await_more(statuses)
    assert set(statuses) == {200}


def test_a_replica_that_is_killed_costs_no_more_than_what_it_had_in_hand(fleet: Fleet, jpeg: bytes) -> None:
    with clients(fleet, jpeg) as statuses:
        fleet.replicas[0].process.kill()
        await_more(statuses)
        fleet.balancer.wait_state(fleet.replicas[0].host, "DOWN")
        await_more(statuses)
    assert set(statuses) <= {200, _LOST}
    assert statuses[_LOST] <= 8  # what it had in hand, and what knocked at its door while it died


def test_a_replica_that_hangs_is_out_of_rotation_until_it_goes_on(fleet: Fleet, jpeg: bytes) -> None:
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
    assert statuses[_LOST] <= 4  # what it had in hand, from which HAProxy has cut the clients loose


def test_streams_of_a_replica_that_hangs_are_ended_so_that_they_can_go_on_elsewhere(fleet: Fleet, jpeg: bytes) -> None:
    async def watch() -> None:
        async with stream(fleet.port, path="/stream?session=camera") as opened:
            await opened.ask(jpeg)
            [holder] = [host for host, row in fleet.balancer.servers("streams").items() if row["scur"] == "1"]
            hanging = next(replica for replica in fleet.replicas if replica.host == holder)
            hanging.process.send_signal(signal.SIGSTOP)
            assert (await opened.ending())[0] == 1006  # nobody was left to say goodbye
        async with stream(fleet.port, path="/stream?session=camera") as again:
            assert "people" in await again.ask(jpeg)

    asyncio.run(watch())


def test_a_stream_whose_replica_is_killed_begins_again_on_another(fleet: Fleet, jpeg: bytes) -> None:
    async def watch() -> None:
        for number in range(4):  # wherever they are
            path = f"/stream?session=camera{number}"
            async with stream(fleet.port, path=path) as opened:
                assert "people" in await opened.ask(jpeg)
        fleet.replicas[0].process.kill()
        fleet.replicas[0].process.wait()
        for number in range(4):  # HAProxy has not noticed yet
            async with stream(fleet.port, path=f"/stream?session=camera{number}") as again:
                assert "people" in await again.ask(jpeg)

    asyncio.run(watch())


def test_replicas_are_found_by_their_name_when_there_are_more_and_left_when_there_are_fewer(
    fleet: Fleet, jpeg: bytes
) -> None:
    with clients(fleet, jpeg) as statuses:
        fleet.scale(3)
        newest = fleet.replicas[2].host
        fleet.balancer.wait_state(newest, "UP")
        wait_for(lambda: fleet.balancer.totals("stills")[newest] > 0)
        fleet.scale(2)
        fleet.balancer.wait_state(newest, "DOWN")
        await_more(statuses)
    assert set(statuses) == {200}
