"""All streams of a server: who may begin, with what memory, and how many at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from engines.skeletons import COCO_17, POSETRACK_15
from service.streams.closing import CloseCode, StreamError
from service.streams.codec import pack
from service.streams.protocol import Hello
from service.streams.registry import Beginning, Streams
from service.streams.session import Session
from service.streams.state import Memory
from service.streams.store.base import Kept, Lost, StoreAwayError
from service.streams.store.memory import MemoryStore
from service.streams.tokens import Tokens, new_session
from service.tracking import PoseTracker
from service.tracking.zones import Line, Presence, Visit, Zone, ZonesState
from tests.memories import NOW, memory

STATE = replace(PoseTracker(COCO_17).state(), next_id=7)
SESSION = new_session()


def make(store: MemoryStore | None = None, most: int = 1, share: float = 1.0) -> Streams:
    return Streams(
        MemoryStore() if store is None else store, Tokens("key", 30), most=most, share=share, resume_seconds=30
    )


def resuming(streams: Streams, session: str = SESSION) -> Hello:
    return Hello(resume=streams.token(session, 12, 7))


def begin(stored: bytes | None, skeleton: str = "coco-17", hello: Hello | None = None) -> Beginning:
    """How a stream begins that resumes SESSION, whose stored state is this."""

    async def story() -> Beginning:
        store = MemoryStore()
        streams = make(store)
        if stored is not None:
            store.keep(SESSION, Kept(1, 5, stored, age=2.0), 30)
        wanted = replace(hello or Hello(), resume=streams.token(SESSION, 12, 7))
        async with streams.begin(wanted, skeleton, "client") as beginning:
            pass
        await streams.close()
        return beginning

    return asyncio.run(story())


def test_a_token_brings_the_session_its_sequence_and_its_memory_back() -> None:
    beginning = begin(pack(Memory(STATE, ZonesState())))
    assert (beginning.session, beginning.sequence, beginning.why) == (SESSION, 12, "")
    assert beginning.generation == 2
    assert beginning.memory is not None
    assert beginning.memory.tracker.next_id == 7
    assert 2 <= beginning.gap < 3


def test_an_id_that_the_client_has_seen_is_not_given_again_though_the_state_is_older() -> None:
    older = replace(STATE, next_id=5)
    beginning = begin(pack(Memory(older, ZonesState())))
    assert beginning.memory is not None
    assert beginning.memory.tracker.next_id == 7


def test_poses_of_another_skeleton_are_no_memory() -> None:
    beginning = begin(pack(Memory(PoseTracker(POSETRACK_15).state(), ZonesState())))
    assert beginning.memory is None
    assert beginning.session != SESSION
    assert beginning.why == "the session has posetrack-15 poses, this model gives coco-17"


def test_a_state_that_cannot_be_read_begins_a_new_session_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        beginning = begin(b"another server's")
    assert beginning.memory is None
    assert beginning.why == "the session cannot be read any more"
    assert "no state of a stream" in caplog.text


def test_a_state_of_other_zones_than_it_names_cannot_be_read() -> None:
    somebody = ZonesState((Presence(1, NOW, (Visit(NOW),), ()),))
    zone = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
    right = Hello(zones=(zone,))
    wrong = Hello(zones=(zone,), lines=(Line("a", (0.0, 0.0), (1.0, 1.0)),))
    good = replace(memory(), zones=somebody, places=right.places)
    assert begin(pack(good), hello=right).memory is not None
    assert begin(pack(good), hello=wrong).memory is not None  # it names others, and is followed without them
    assert begin(pack(replace(good, places=wrong.places)), hello=wrong).why == "the session cannot be read any more"


def test_when_going_down_nobody_begins() -> None:
    async def story() -> None:
        streams = make()
        await streams.go_away(1.0)
        with pytest.raises(StreamError) as refusal:
            await streams.begin(Hello(), "coco-17", "client").__aenter__()
        assert refusal.value.code is CloseCode.TRY_LATER
        await streams.close()

    asyncio.run(story())


def test_those_who_say_no_hello_are_bounded_for_all_and_for_each() -> None:
    streams = make(most=4, share=0.5)
    with streams.greeting("a"), streams.greeting("a"):
        with pytest.raises(StreamError, match="2 connections of this client have not said hello"):
            streams.greeting("a").__enter__()
        with streams.greeting("b"), streams.greeting("c"), pytest.raises(StreamError, match="4 connections have not"):
            streams.greeting("d").__enter__()
    with streams.greeting("a"):
        pass


class Slow(MemoryStore):
    """A store that takes its time, as one that servers share. away: whether it can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def start(self, lost: Lost) -> None:
        """Nobody else takes a session."""

    async def claim(self, session: str, seconds: float) -> Kept | None:
        for _ in range(3):
            await asyncio.sleep(0)
        if self.away:
            raise StoreAwayError("it sleeps")
        return await super().claim(session, seconds)


class Open:
    """In place of a Session: runs until it is ended."""

    def __init__(self) -> None:
        self.sequence, self.state, self.age = 20, pack(memory()), 0.0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, code: CloseCode, reason: str) -> None:
        if not self._end.done():
            self._end.set_exception(StreamError(code, reason))

    async def run(self) -> None:
        try:
            await self._end
        finally:
            await asyncio.sleep(0)  # to end takes a while


class House:
    """A server's streams, with what was open at most and at once."""

    def __init__(self, most: int, share: float = 1.0) -> None:
        self.store = Slow()
        self.streams = make(self.store, most, share)
        self.open, self.most_open = 0, 0
        self.resumed: list[bool] = []

    @asynccontextmanager
    async def stream(self, hello: Hello, client: str) -> AsyncIterator[Open]:
        async with self.streams.begin(hello, "coco-17", client) as beginning:
            session = Open()
            async with self.streams.hold(beginning, cast(Session, session)):
                self.open += 1
                self.most_open = max(self.open, self.most_open)
                self.resumed.append(beginning.memory is not None)
                try:
                    yield session
                finally:
                    self.open -= 1

    async def serve(self, hello: Hello, client: str = "client") -> CloseCode:
        """Serve until the stream is ended, and tell why."""
        try:
            async with self.stream(hello, client) as session:
                await session.run()
        except StreamError as error:
            return error.code
        raise AssertionError

    def leave(self, sessions: Sequence[str]) -> None:
        """Keep sessions whose clients have left."""
        for session in sessions:
            self.store.keep(session, Kept(1, 5, pack(memory())), 30)

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


def test_resumed_streams_count_from_the_moment_that_they_begin() -> None:
    async def story() -> None:
        house = House(most=10)
        sessions = [new_session() for _ in range(100)]
        house.leave(sessions)
        tasks = [asyncio.create_task(house.serve(resuming(house.streams, each))) for each in sessions]
        await house.settle()
        assert house.open == house.most_open == len(house.streams) == 10
        assert all(house.resumed)
        await house.streams.close()
        codes = [await task for task in tasks]
        assert codes.count(CloseCode.TRY_LATER) == 90
        assert codes.count(CloseCode.GOING_AWAY) == 10

    asyncio.run(story())


def test_whoever_was_refused_finds_the_session_later() -> None:
    async def story() -> None:
        house = House(most=1)
        house.leave([SESSION])
        async with house.stream(Hello(), "a"):
            assert await house.serve(resuming(house.streams), "b") is CloseCode.TRY_LATER
        async with house.stream(resuming(house.streams), "b"):
            assert house.resumed == [False, True]

    asyncio.run(story())


def test_a_full_server_takes_the_resume_of_its_own_session_a_hundred_times_at_once() -> None:
    async def story() -> None:
        house = House(most=1)
        house.leave([SESSION])
        first = asyncio.create_task(house.serve(resuming(house.streams)))
        await house.settle()
        others = [asyncio.create_task(house.serve(resuming(house.streams), f"c{n}")) for n in range(100)]
        await house.settle()
        assert house.open == house.most_open == 1
        assert all(house.resumed)
        assert not others[-1].done()  # the newest has it
        await house.streams.close()
        assert await first is CloseCode.REPLACED
        codes = [await task for task in others]
        assert codes == [CloseCode.REPLACED] * 99 + [CloseCode.GOING_AWAY]

    asyncio.run(story())


def test_resumes_of_many_sessions_that_are_given_up_at_any_moment_leave_no_slot_taken() -> None:
    async def story() -> None:
        house = House(most=3)
        sessions = [new_session() for _ in range(3)]
        house.leave(sessions)
        for limiter in range(12):
            tasks = [asyncio.create_task(house.serve(resuming(house.streams, each))) for each in sessions * 3]
            for _ in range(limiter):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (house.open, len(house.streams)) == (0, 0)
        house.resumed.clear()
        tasks = [asyncio.create_task(house.serve(resuming(house.streams, each))) for each in sessions]
        await house.settle()
        assert house.open == 3
        assert house.resumed == [True] * 3  # nothing that was given up has cost a session its memory
        assert house.most_open == 3
        await house.streams.close()
        await asyncio.gather(*tasks)

    asyncio.run(story())


def test_one_client_leaves_room_for_others() -> None:
    async def story() -> None:
        house = House(most=4, share=0.5)
        async with house.stream(Hello(), "a"), house.stream(Hello(), "a"):
            with pytest.raises(StreamError, match="as many as one client may have") as no:
                await house.stream(Hello(), "a").__aenter__()
            assert no.value.code is CloseCode.TRY_LATER
            async with house.stream(Hello(), "b"), house.stream(Hello(), "c"):
                with pytest.raises(StreamError, match="4 streams are open, as many as this server takes"):
                    await house.stream(Hello(), "d").__aenter__()
        async with house.stream(Hello(), "a"):
            pass

    asyncio.run(story())


def test_a_session_moves_with_its_client_to_another_address_but_not_beyond_that_ones_share() -> None:
    async def story() -> None:
        house = House(most=2, share=0.5)
        house.leave([SESSION])
        at_home = asyncio.create_task(house.serve(resuming(house.streams), "home"))
        await house.settle()
        async with house.stream(Hello(), "away"):
            assert await house.serve(resuming(house.streams), "away") is CloseCode.TRY_LATER
            await house.settle()
            assert not at_home.done()  # it has lost nothing to whoever was refused
        on_the_road = asyncio.create_task(house.serve(resuming(house.streams), "away"))
        assert await at_home is CloseCode.REPLACED
        async with house.stream(Hello(), "home"):
            await house.settle()
            assert house.open == 2
        await house.streams.close()
        await on_the_road

    asyncio.run(story())


def test_a_session_that_cannot_be_resumed_gives_its_place_to_a_new_one() -> None:
    async def story() -> None:
        house = House(most=1)
        house.store.away = True
        task = asyncio.create_task(house.serve(resuming(house.streams)))
        await house.settle()
        assert (house.resumed, house.open) == ([False], 1)
        assert await house.serve(resuming(house.streams), "b") is CloseCode.TRY_LATER
        await house.streams.close()
        await task

    asyncio.run(story())


def test_nobody_begins_once_the_server_goes_down_while_a_state_is_fetched() -> None:
    async def story() -> None:
        house = House(most=1)
        house.leave([SESSION])
        task = asyncio.create_task(house.serve(resuming(house.streams)))
        await asyncio.sleep(0)
        await house.streams.close()
        assert await task is CloseCode.TRY_LATER
        kept = await house.store.claim(SESSION, 30)
        assert kept is not None

    asyncio.run(story())
