"""Watchers of a camera's results: each at its own pace, with what it has missed counted, and nobody held up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.cameras.feed import CameraResult, FeedState, ResultFeed
from service.cameras.result_watcher import ResultWatcher
from service.quota import Quota
from service.streams.frame_processor import ProcessedFrame
from service.streams.protocol import CloseCode, Hello, StreamError
from service.tracking.events import TrackingEvent
from service.tracking.zones import Zone
from tests.waiting import until

HELLO = Hello(extras=True, zones=(Zone("all", ((0, 0), (1, 0), (1, 1))),))


def a_result(number: int, dropped: int = 0, events: tuple[str, ...] = ()) -> CameraResult:
    poses = Poses(
        np.zeros((1, 17, 2), np.float32),
        np.ones((1, 17), np.float32),
        np.array([[0, 0, 9, 9]], np.float32),
        np.ones(1, np.float32),
        COCO_17,
        np.array([number + 1]),
    )
    happened = [TrackingEvent("enter", name, 1, 0.0) for name in events]
    processed = ProcessedFrame(poses, np.zeros((1, 2), np.float32), np.zeros(1, np.float32), happened, 9, 9, {})
    return CameraResult(number, np.zeros((9, 9, 3), np.uint8), processed, float(number), 0.0, dropped)


class Line:
    """A connection in memory. clear: whether there is room for another message."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.clear = asyncio.Event()
        self.clear.set()
        self.incoming: asyncio.Queue[str | bytes] = asyncio.Queue()

    async def receive(self) -> str | bytes:
        return await self.incoming.get()

    async def send(self, message: str | bytes) -> None:
        await self.clear.wait()
        self.sent.append(json.loads(message))

    def results(self) -> list[tuple[int, int]]:
        return [(message["frame"], message["dropped"]) for message in self.sent if message["type"] == "result"]


@asynccontextmanager
async def watching(
    feed: ResultFeed,
    *,
    window: int = 0,
    interval: float = 0.0,
    idle: float = 60.0,
    memory: int = 10**6,
    pause: Callable[[int], float] = lambda _: 0.0,
) -> AsyncIterator[tuple[Line, asyncio.Task[None]]]:
    line = Line()
    lease = Quota("bytes", memory).take("me", 0)
    watcher = ResultWatcher(line, feed, HELLO, "json", window, interval, idle, lease, "me", pause)
    task = asyncio.create_task(watcher.run({"camera": "door"}))
    try:
        await settle()
        yield line, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    """Let all tasks run until each waits."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_a_watcher_gets_the_welcome_the_state_and_the_newest_result_first() -> None:
    async def story() -> list[dict[str, Any]]:
        feed = ResultFeed()
        feed.tell(FeedState("live"))
        feed.put(a_result(0, events=("long ago",)))
        feed.put(a_result(1, dropped=2, events=("now",)))
        async with watching(feed) as (line, _):
            feed.put(a_result(2))
            await settle()
            return line.sent

    welcome, state, first, second = asyncio.run(story())
    assert welcome == {"type": "welcome", "camera": "door"}
    assert state == {"type": "camera", "state": "live", "reason": ""}
    assert (first["frame"], first["dropped"], first["timestamp"]) == (3, 0, 1000)
    assert [event["name"] for event in first["events"]] == ["now"]
    assert (second["frame"], second["dropped"], second["events"]) == (4, 0, [])
    assert second["people"][0] == {**second["people"][0], "id": 3, "age_s": 0, "velocity": [0, 0]}


def test_one_who_does_not_read_misses_results_but_no_events_and_holds_up_nobody() -> None:
    async def story() -> tuple[Line, Line]:
        feed = ResultFeed()
        async with watching(feed) as (quick, _), watching(feed) as (slow, _):
            slow.clear.clear()
            for number in range(6):
                feed.put(a_result(number, dropped=number % 2, events=(str(number),)))
                await settle()
            slow.clear.set()
            await settle()
            return quick, slow

    quick, slow = asyncio.run(story())
    assert quick.results() == [(0, 0), (2, 1), (3, 0), (5, 1), (6, 0), (8, 1)]
    assert slow.results() == [(0, 0), (8, 7)]
    assert [event["name"] for event in slow.sent[-1]["events"]] == ["1", "2", "3", "4", "5"]


def test_results_wait_for_acknowledgements_and_an_old_one_is_not_sent() -> None:
    async def story() -> tuple[Line, StreamError]:
        feed = ResultFeed()
        async with watching(feed, window=2) as (line, task):
            for number in range(5):
                feed.put(a_result(number))
                await settle()
            line.incoming.put_nowait('{"ack": 0}')
            await settle()
            line.incoming.put_nowait('{"ack": 7}')
            with pytest.raises(StreamError) as ended:
                await task
            return line, ended.value

    line, ended = asyncio.run(story())
    assert line.results() == [(0, 0), (1, 0), (4, 2)]
    assert (ended.code, ended.reason) == (
        CloseCode.BAD_MESSAGE,
        "frame 7 was acknowledged, but the last with a result is 4",
    )


def test_a_watcher_may_ask_for_fewer_results() -> None:
    async def story() -> tuple[list[tuple[int, int]], list[str]]:
        feed = ResultFeed()
        async with watching(feed, interval=1000.0) as (line, _):
            for number in range(3):
                feed.put(a_result(number))
                await settle()
            feed.tell(FeedState("lost", "no picture for 5 s"))
            await settle()
            return line.results(), [message.get("state", "") for message in line.sent]

    results, states = asyncio.run(story())
    assert results == [(0, 0)]
    assert states == ["", "connecting", "", "lost"]  # which does not wait for the next result


def test_a_paused_camera_gives_no_result_to_who_comes_later() -> None:
    async def story() -> list[tuple[int, int]]:
        feed = ResultFeed()
        feed.put(a_result(0))
        feed.clear()
        async with watching(feed) as (line, _):
            feed.put(a_result(0, dropped=3))  # of another session, whose numbers begin again
            await settle()
            return line.results()

    assert asyncio.run(story()) == [(4, 3)]


@pytest.mark.parametrize("case", ["frame", "nonsense", "unread", "unacknowledged", "memory", "gone"])
def test_how_it_ends(case: str) -> None:
    async def story() -> StreamError:
        feed = ResultFeed()
        idle = 0.05 if case.startswith("un") else 60.0
        memory = 100 if case == "memory" else 10**6
        async with watching(feed, idle=idle, memory=memory, window=case == "unacknowledged") as (line, task):
            match case:
                case "frame":
                    line.incoming.put_nowait(b"a picture")
                case "nonsense":
                    line.incoming.put_nowait("{}")
                case "unread":
                    line.clear.clear()
                case "gone":
                    feed.end(CloseCode.UNKNOWN_CAMERA, "the camera was removed")
            feed.put(a_result(0))
            await settle()
            feed.put(a_result(1))
            with pytest.raises(StreamError) as ended:
                await task
            return ended.value

    expected = {
        "frame": (CloseCode.BAD_MESSAGE, "frames of its own"),
        "nonsense": (CloseCode.BAD_MESSAGE, "ack"),
        "unread": (CloseCode.GONE, "nothing was read"),
        "unacknowledged": (CloseCode.GONE, "no result was acknowledged"),
        "memory": (CloseCode.TRY_LATER, "no memory left"),
        "gone": (CloseCode.UNKNOWN_CAMERA, "removed"),
    }
    error = asyncio.run(story())
    code, words = expected[case]
    assert error.code == code
    assert words in error.reason


def test_a_watcher_whose_client_has_too_many_waits_and_misses_results() -> None:
    async def story() -> tuple[list[tuple[int, int]], list[int]]:
        feed, sizes = ResultFeed(), list[int]()

        def pause(size: int) -> float:
            sizes.append(size)
            return 0.05 if len(sizes) == 1 else 0.0

        async with watching(feed, pause=pause) as (line, _):
            for number in range(4):
                feed.put(a_result(number))
                await settle()
            seen = len(line.results())
            await until(lambda: len(line.results()) > seen)
            return line.results(), sizes

    results, sizes = asyncio.run(story())
    assert results == [(0, 0), (3, 2)]
    assert min(sizes) > 50
