"""Processes that are ready to read a source before they are needed."""

from __future__ import annotations

import asyncio
import subprocess
from unittest.mock import patch

from service.cameras.sources import spare_readers
from service.cameras.sources.spare_readers import SpareReaders, StartedReader, start_reader
from tests.waiting import until


def test_a_reader_that_is_ready_is_taken_first_and_replaced_and_dead_ones_are_not_given() -> None:
    started: list[StartedReader] = []

    def start() -> StartedReader:
        started.append(start_reader())
        return started[-1]

    async def story() -> None:
        spare = SpareReaders(lambda: 2)
        running = asyncio.create_task(spare.run())
        await until(lambda: len(started) == 2)
        taken = spare.start()
        assert taken is started[0]
        await until(lambda: len(started) == 3)
        started[1].process.kill()
        started[1].process.wait()
        assert spare.start() is started[2]
        assert spare.start() not in started[:3], "there is none left that is ready"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with patch.multiple(spare_readers, start_reader=start, _CALM_S=0.0, _ROUND_S=0.01):
        asyncio.run(story())
    for reader in started:
        reader.end()
        assert reader.process.wait(60) is not None


def test_readers_that_are_ready_end_with_their_owner_and_none_is_started_that_is_not_wanted() -> None:
    started: list[subprocess.Popen[bytes]] = []
    wanted = [2]

    def start() -> StartedReader:
        reader = start_reader()
        started.append(reader.process)
        return reader

    async def story() -> None:
        running = asyncio.create_task(SpareReaders(lambda: wanted[0]).run())
        await until(lambda: len(started) == 2)
        wanted[0] = 0
        started[0].kill()
        started[0].wait()
        await asyncio.sleep(0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with patch.multiple(spare_readers, start_reader=start, _CALM_S=0.0, _ROUND_S=0.01):
        asyncio.run(story())
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
