"""Processes that follow streams: started with the first, shared by many, replaced when they end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.following.pool import FollowedStream, Following
from service.following.process import FollowingError, ProcessEndedError
from service.streams.protocol import Hello
from tests.following import followers
from tests.service.tracking.people import people
from tests.waiting import until

FRAME = np.random.default_rng(5).integers(0, 256, (240, 320, 3)).astype(np.uint8)
NOBODY = Poses.empty(COCO_17)


def follow(story: Callable[[Following, FollowedStream], Awaitable[None]], hang_after: float = 30.0) -> None:
    """A story about one stream."""

    async def whole() -> None:
        async with followers(hang_after=hang_after) as following, following.stream(COCO_17, Hello()) as stream:
            await story(following, stream)

    asyncio.run(whole())


def test_no_process_runs_before_the_first_frame_and_none_after_the_last() -> None:
    async def story() -> int:
        async with followers() as following:
            assert following.processes == []
            async with following.stream(COCO_17, Hello()) as stream:
                await stream.follow(NOBODY, FRAME, 1.0)
                return following.processes[0].pid

    pid = asyncio.run(story())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_streams_spread_over_the_processes_and_know_nothing_of_each_other() -> None:
    async def story() -> None:
        async with (
            followers(processes=2) as following,
            following.stream(COCO_17, Hello()) as one,
            following.stream(COCO_17, Hello()) as other,
        ):
            await one.follow(people([(80, 120)]), FRAME, 1.0)
            both, _ = await other.follow(people([(80, 120), (240, 120)]), FRAME, 1.0)
            first, _ = await one.follow(people([(80, 120)]), FRAME, 1.1)
            assert (first.ids.tolist(), both.ids.tolist()) == ([1], [1, 2])
            assert [len(process.free) for process in following.processes] == [3, 3]

    asyncio.run(story())


def open_files() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_stream_that_is_left_while_its_process_starts_leaves_nothing_open(turns: int) -> None:
    async def story() -> None:
        before = open_files()
        async with followers() as following, following.stream(COCO_17, Hello()) as stream:
            asking = asyncio.create_task(stream.follow(NOBODY, FRAME, 1.0))
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: open_files() == before)

    asyncio.run(story())


def test_a_place_that_was_left_is_taken_again() -> None:
    async def story() -> None:
        async with followers() as following:
            for n in range(20):  # there is room for four at once
                async with following.stream(COCO_17, Hello()) as stream:
                    seen, _ = await stream.follow(people([(80, 120)]), FRAME, float(n))
                    assert seen.ids.tolist() == [1]
            assert len(following.processes[0].free) == 4

    asyncio.run(story())


def test_when_a_process_is_killed_another_goes_on_with_the_same_people(caplog: pytest.LogCaptureFixture) -> None:
    async def story(following: Following, stream: FollowedStream) -> None:
        await stream.follow(people([(80, 120), (240, 120)]), FRAME, 1.0)
        os.kill(following.processes[0].pid, signal.SIGKILL)
        seen, _ = await stream.follow(people([(240, 120), (80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [2, 1]

    follow(story)
    assert [record.message for record in caplog.records] == ["a process that follows streams has ended and is replaced"]


def test_that_is_counted_for_whoever_watches() -> None:
    async def story() -> int:
        replaced: list[None] = []
        following = Following(
            1, streams=4, frame_bytes=1_000_000, hang_after=30.0, replaced=lambda: replaced.append(None)
        )
        async with following.stream(COCO_17, Hello()) as stream:
            await stream.follow(NOBODY, FRAME, 1.0)
            following.processes[0].kill()
            await stream.follow(NOBODY, FRAME, 1.1)
        await following.close()
        return len(replaced)

    assert asyncio.run(story()) == 1


def test_between_the_two_requests_of_a_frame_too() -> None:
    async def story(following: Following, stream: FollowedStream) -> None:
        await stream.follow(people([(80, 120)]), FRAME, 1.0)
        boxes, _ = await stream.expected(FRAME, 1.1)
        assert len(boxes) == 1
        os.kill(following.processes[0].pid, signal.SIGKILL)
        seen, _ = await stream.follow(people([(80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [1]

    follow(story)


def test_a_process_that_hangs_is_replaced() -> None:
    async def story(following: Following, stream: FollowedStream) -> None:
        await stream.follow(people([(80, 120)]), FRAME, 1.0)
        stopped = following.processes[0].pid
        os.kill(stopped, signal.SIGSTOP)
        seen, _ = await stream.follow(people([(80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [1]
        assert following.processes[0].pid != stopped

    follow(story, hang_after=3.0)


def test_a_frame_that_ends_every_process_is_given_up() -> None:
    async def story(following: Following, stream: FollowedStream) -> None:
        await stream.follow(NOBODY, FRAME, 1.0)

        async def end_all() -> None:
            while True:
                for process in following.processes:
                    process.kill()
                await asyncio.sleep(0)

        killing = asyncio.create_task(end_all())
        with pytest.raises(ProcessEndedError):
            await stream.follow(NOBODY, FRAME, 1.1)
        killing.cancel()
        await stream.follow(NOBODY, FRAME, 1.2)

    follow(story)


def test_a_defect_is_told_and_ends_nothing() -> None:
    async def story(following: Following, stream: FollowedStream) -> None:
        await stream.follow(people([(80, 120)]), FRAME, 1.0)
        with pytest.raises(FollowingError, match="time runs forwards"):
            await stream.follow(people([(80, 120)]), FRAME, 0.5)
        seen, _ = await stream.follow(people([(80, 120)]), FRAME, 1.1)
        assert seen.ids.tolist() == [1]
        assert len(following.processes) == 1

    follow(story)


def test_a_terminal_that_ends_the_server_does_not_end_what_it_still_needs() -> None:
    async def story(following: Following, stream: FollowedStream) -> None:
        await stream.follow(NOBODY, FRAME, 1.0)
        pid = following.processes[0].pid
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        await stream.follow(NOBODY, FRAME, 1.1)
        assert following.processes[0].pid == pid

    follow(story)
