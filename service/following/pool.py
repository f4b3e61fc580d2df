"""Who follows which stream: a few processes, each with many streams, replaced when they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from engines.poses import Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.following.follower import Followed, beginning
from service.following.process import FollowingProcess, ProcessEndedError
from service.following.wire import Begin, End, Expect, Follow, Request
from service.streams.codec import pack
from service.streams.memory import Memory
from service.streams.protocol import Hello

log = logging.getLogger(__name__)

_TRIES = 2
"""A frame that has ended so many processes is not tried again."""


class Following:
    """The processes, started as streams need them. It belongs to one event loop.

    processes: at most. streams: at most, in each. frame_bytes: of the largest frame. hang_after: seconds.
    replaced: called for each that has ended.
    """

    def __init__(
        self,
        processes: int,
        *,
        streams: int,
        frame_bytes: int,
        hang_after: float,
        replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self._most = processes
        self._replaced = replaced
        self._new: Callable[[], FollowingProcess] = lambda: FollowingProcess(streams, frame_bytes, hang_after)
        self._processes: list[FollowingProcess] = []
        self._streams = 0
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def processes(self) -> list[FollowingProcess]:
        """Those that have been started and not replaced."""
        return list(self._processes)

    @asynccontextmanager
    async def stream(
        self, skeleton: Skeleton, hello: Hello, memory: Memory | None = None
    ) -> AsyncIterator[FollowedStream]:
        """Follow one stream for as long as the context lasts. memory: to go on from, None for a new stream."""
        stream = FollowedStream(self, skeleton, hello, memory or beginning(skeleton, hello))
        self._streams += 1
        try:
            yield stream
        finally:
            self._streams -= 1
            stream.leave()

    async def place(self) -> Place:
        """A free slot of the process that has the most of them."""
        async with self._starting:
            for ended in [process for process in self._processes if not process.alive]:
                self._processes.remove(ended)
                log.error("a process that follows streams has ended and is replaced")
                self._replaced()
                task = asyncio.create_task(ended.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            if len(self._processes) < min(self._most, self._streams):
                process = self._new()
                try:
                    await process.start()
                except BaseException:  # the stream that needs it may have been left meanwhile
                    await process.close()
                    raise
                self._processes.append(process)
            roomiest = max(self._processes, key=lambda process: len(process.free))
            return Place(roomiest, roomiest.free.pop())

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*self._closing, *(process.close() for process in self._processes))
        self._processes.clear()


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of a process, which is one stream's until it is left."""

    process: FollowingProcess
    slot: int

    def leave(self) -> None:
        """Let another stream have the slot."""
        if self.process.alive:
            self.process.tell(End(self.slot))
            self.process.arena.clear(self.slot)
            self.process.free.append(self.slot)


class FollowedStream:
    """One stream, followed by one process, or by another from the last frame's state should that one end.

    state: as of the last frame, see `codec`. next_id: the first id that nobody has had.
    """

    def __init__(self, following: Following, skeleton: Skeleton, hello: Hello, memory: Memory) -> None:
        self.state, self.next_id = pack(memory), memory.tracker.next_id
        self._following = following
        self._skeleton = skeleton
        self._hello = hello
        self._place: Place | None = None
        self._written: Frame | None = None

    async def expected(self, frame: Frame, taken: float) -> tuple[Floats, float]:
        """See `Follower.expected`; and the seconds it took. Raises as `follow` does."""
        boxes, seconds = await self._ask(frame, lambda slot, _: Expect(slot, frame.shape, taken))
        return boxes, seconds

    async def follow(self, poses: Poses, frame: Frame, taken: float) -> tuple[Followed, float]:
        """See `Follower.follow`; and the seconds it took. Raises FollowingError for a defect, or ProcessEndedError."""
        columns = poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, poses.keypoints_3d
        followed: Followed
        followed, seconds = await self._ask(
            frame, lambda slot, fresh: Follow(slot, frame.shape, fresh, taken, *columns)
        )
        self.state, self.next_id = followed.state, followed.next_id
        self._written = None  # the next frame may be an array at the same place
        return followed, seconds

    def leave(self) -> None:
        """Follow it no more."""
        if self._place is not None:
            self._place.leave()

    async def _ask(self, frame: Frame, request: Callable[[int, bool], Request]) -> tuple[Any, float]:
        for remaining in reversed(range(_TRIES)):
            try:
                place = await self._settled()
                fresh = self._written is not frame
                if fresh:
                    place.process.arena.write(place.slot, frame)
                    self._written = frame
                return await place.process.ask(request(place.slot, fresh))
            except ProcessEndedError:
                if not remaining:
                    raise
        raise AssertionError  # the loop returns or raises

    async def _settled(self) -> Place:
        """The place where this stream is followed, a new one if that is gone."""
        if self._place is None or not self._place.process.alive:
            self._place = await self._following.place()
            self._written = None
            await self._place.process.ask(Begin(self._place.slot, self._skeleton.name, self._hello, self.state))
        return self._place
