"""Streams begin new or resume a session, and their number is limited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import pytest

from engines.skeletons import COCO_17, POSETRACK_15, Skeleton
from service.streams.protocol import CloseCode, Hello, StreamError
from service.streams.registry import Beginning, Streams
from service.streams.session import Session
from service.streams.store.base import Lost, StoreAwayError, StoredState
from service.streams.store.memory import MemoryStore
from service.streams.tokens import Tokens, new_session
from service.tracking import PoseTracker
from service.tracking.zones import Line, Presence, Visit, Zone, ZonesState
from service.tracking_workers.codec import pack
from service.tracking_workers.state import StreamState
from tests.stream_states import NOW, stream_state

STATE = replace(PoseTracker(COCO_17).state(), next_id=7)
SESSION = new_session()


def make(store: MemoryStore | None = None, most: int = 1, share: float = 1.0) -> Streams:
    return Streams(
        MemoryStore() if store is None else store, Tokens("key", 30), most=most, share=share, resume_seconds=30
    )


def resuming(streams: Streams, session: str = SESSION) -> Hello:
    return Hello(resume=streams.token(session, 12, 7))


def begin(stored: bytes | None, skeleton: Skeleton = COCO_17, hello: Hello | None = None) -> Beginning:
    """Return how a stream begins that resumes SESSION, with `stored` as its stored state."""

    async def scenario() -> Beginning:
        store = MemoryStore()
        streams = make(store)
        if stored is not None:
            store.keep(SESSION, StoredState(1, 5, stored, age=2.0), 30)
        wanted = replace(hello or Hello(), resume=streams.token(SESSION, 12, 7))
        async with streams.begin(wanted, skeleton, "client") as beginning:
            pass
        await streams.close()
        return beginning

    return asyncio.run(scenario())


def test_a_token_resumes_the_session_with_its_sequence_and_state() -> None:
    beginning = begin(pack(StreamState(STATE, ZonesState())))
    assert (beginning.slot.session, beginning.sequence, beginning.detail) == (SESSION, 12, "")
    assert beginning.slot.generation == 2
    assert beginning.state is not None
    assert beginning.state.tracker.next_id == 7
    assert 2 <= beginning.gap < 3


def test_ids_that_the_client_has_seen_are_not_assigned_again_after_an_older_state() -> None:
    older = replace(STATE, next_id=5)
    beginning = begin(pack(StreamState(older, ZonesState())))
    assert beginning.state is not None
    assert beginning.state.tracker.next_id == 7


def test_a_state_with_another_skeleton_begins_a_new_session() -> None:
    beginning = begin(pack(StreamState(PoseTracker(POSETRACK_15).state(), ZonesState())))
    assert beginning.state is None
    assert beginning.slot.session != SESSION
    assert beginning.detail == "the session has posetrack-15 poses, this model gives coco-17"


def test_a_state_that_cannot_be_read_begins_a_new_session_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        beginning = begin(b"another server's")
    assert beginning.state is None
    assert beginning.detail == "the session cannot be read any more"
    assert "no state of a stream" in caplog.text


def test_a_state_that_contradicts_its_zones_cannot_be_read() -> None:
    somebody = ZonesState((Presence(1, NOW, (Visit(NOW),), ()),))
    zone = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
    right = Hello(zones=(zone,))
    wrong = Hello(zones=(zone,), lines=(Line("a", (0.0, 0.0), (1.0, 1.0)),))
    good = replace(stream_state(), zones=somebody, zones_hash=right.tracking.zones_hash)
    assert begin(pack(good), hello=right).state is not None
    assert begin(pack(good), hello=wrong).state is not None  # it names other zones, and is used without them
    assert (
        begin(pack(replace(good, zones_hash=wrong.tracking.zones_hash)), hello=wrong).detail
        == "the session cannot be read any more"
    )


def test_no_stream_begins_when_the_server_goes_down() -> None:
    async def scenario() -> None:
        streams = make()
        await streams.go_away(1.0)
        with pytest.raises(StreamError) as refusal:
            await streams.begin(Hello(), COCO_17, "client").__aenter__()
        assert refusal.value.code is CloseCode.TRY_LATER
        await streams.close()

    asyncio.run(scenario())


def test_connections_without_a_hello_are_limited_for_all_and_for_each_client() -> None:
    streams = make(most=4, share=0.5)
    with streams.greeting("a"), streams.greeting("a"):
        with pytest.raises(StreamError, match="2 connections of this client have not said hello"):
            streams.greeting("a").__enter__()
        with streams.greeting("b"), streams.greeting("c"), pytest.raises(StreamError, match="4 connections have not"):
            streams.greeting("d").__enter__()
    with streams.greeting("a"):
        pass


class SlowStore(MemoryStore):
    """A slow store, as if it were shared by servers. away: it cannot be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False

    async def start(self, lost: Lost) -> None:
        """No other server claims a session."""

    async def claim(self, session: str, seconds: float) -> StoredState | None:
        for _ in range(3):
            await asyncio.sleep(0)
        if self.away:
            raise StoreAwayError("it sleeps")
        return await super().claim(session, seconds)


class FakeSession:
    """In place of a Session: runs until it is ended."""

    def __init__(self) -> None:
        self.sequence, self.state, self.age = 20, pack(stream_state()), 0.0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, code: CloseCode, reason: str) -> None:
        if not self._end.done():
            self._end.set_exception(StreamError(code, reason))

    async def run(self) -> None:
        try:
            await self._end
        finally:
            await asyncio.sleep(0)  # ending takes a while


class Server:
    """A server's streams. open: how many are open. most_open: the most that were open at once."""

    def __init__(self, most: int, share: float = 1.0) -> None:
        self.store = SlowStore()
        self.streams = make(self.store, most, share)
        self.open, self.most_open = 0, 0
        self.resumed: list[bool] = []

    @asynccontextmanager
    async def stream(self, hello: Hello, client: str) -> AsyncIterator[FakeSession]:
        async with self.streams.begin(hello, COCO_17, client) as beginning:
            session = FakeSession()
            async with self.streams.hold(beginning.slot, cast(Session, session)):
                self.open += 1
                self.most_open = max(self.open, self.most_open)
                self.resumed.append(beginning.state is not None)
                try:
                    yield session
                finally:
                    self.open -= 1

    async def serve(self, hello: Hello, client: str = "client") -> CloseCode:
        """Serve until the stream is ended. Returns its close code."""
        try:
            async with self.stream(hello, client) as session:
                await session.run()
        except StreamError as error:
            return error.code
        raise AssertionError

    def leave(self, sessions: Sequence[str]) -> None:
        """Store the state of sessions whose clients have left."""
        for session in sessions:
            self.store.keep(session, StoredState(1, 5, pack(stream_state())), 30)

    async def settle(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


def test_resumed_streams_count_from_the_moment_they_begin() -> None:
    async def scenario() -> None:
        server = Server(most=10)
        sessions = [new_session() for _ in range(100)]
        server.leave(sessions)
        tasks = [asyncio.create_task(server.serve(resuming(server.streams, each))) for each in sessions]
        await server.settle()
        assert server.open == server.most_open == len(server.streams) == 10
        assert all(server.resumed)
        await server.streams.close()
        codes = [await task for task in tasks]
        assert codes.count(CloseCode.TRY_LATER) == 90
        assert codes.count(CloseCode.GOING_AWAY) == 10

    asyncio.run(scenario())


def test_a_refused_client_can_resume_its_session_later() -> None:
    async def scenario() -> None:
        server = Server(most=1)
        server.leave([SESSION])
        async with server.stream(Hello(), "a"):
            assert await server.serve(resuming(server.streams), "b") is CloseCode.TRY_LATER
        async with server.stream(resuming(server.streams), "b"):
            assert server.resumed == [False, True]

    asyncio.run(scenario())


def test_a_full_server_resumes_its_own_session_a_hundred_times_at_once() -> None:
    async def scenario() -> None:
        server = Server(most=1)
        server.leave([SESSION])
        first = asyncio.create_task(server.serve(resuming(server.streams)))
        await server.settle()
        others = [asyncio.create_task(server.serve(resuming(server.streams), f"c{n}")) for n in range(100)]
        await server.settle()
        assert server.open == server.most_open == 1
        assert all(server.resumed)
        assert not others[-1].done()  # the newest connection has the session
        await server.streams.close()
        assert await first is CloseCode.REPLACED
        codes = [await task for task in others]
        assert codes == [CloseCode.REPLACED] * 99 + [CloseCode.GOING_AWAY]

    asyncio.run(scenario())


def test_resumes_that_are_cancelled_at_any_moment_leave_no_slot_taken() -> None:
    async def scenario() -> None:
        server = Server(most=3)
        sessions = [new_session() for _ in range(3)]
        server.leave(sessions)
        for iterations in range(12):
            tasks = [asyncio.create_task(server.serve(resuming(server.streams, each))) for each in sessions * 3]
            for _ in range(iterations):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (server.open, len(server.streams)) == (0, 0)
        server.resumed.clear()
        tasks = [asyncio.create_task(server.serve(resuming(server.streams, each))) for each in sessions]
        await server.settle()
        assert server.open == 3
        assert server.resumed == [True] * 3  # no cancelled resume has lost a session's state
        assert server.most_open == 3
        await server.streams.close()
        await asyncio.gather(*tasks)

    asyncio.run(scenario())


def test_one_client_leaves_room_for_others() -> None:
    async def scenario() -> None:
        server = Server(most=4, share=0.5)
        async with server.stream(Hello(), "a"), server.stream(Hello(), "a"):
            with pytest.raises(StreamError, match="as many as one client may have") as no:
                await server.stream(Hello(), "a").__aenter__()
            assert no.value.code is CloseCode.TRY_LATER
            async with server.stream(Hello(), "b"), server.stream(Hello(), "c"):
                with pytest.raises(StreamError, match="4 streams are open, as many as this server takes"):
                    await server.stream(Hello(), "d").__aenter__()
        async with server.stream(Hello(), "a"):
            pass

    asyncio.run(scenario())


def test_a_session_can_move_to_another_client_within_that_clients_share() -> None:
    async def scenario() -> None:
        server = Server(most=2, share=0.5)
        server.leave([SESSION])
        at_home = asyncio.create_task(server.serve(resuming(server.streams), "home"))
        await server.settle()
        async with server.stream(Hello(), "away"):
            assert await server.serve(resuming(server.streams), "away") is CloseCode.TRY_LATER
            await server.settle()
            assert not at_home.done()  # the refused resume has not ended it
        on_the_road = asyncio.create_task(server.serve(resuming(server.streams), "away"))
        assert await at_home is CloseCode.REPLACED
        async with server.stream(Hello(), "home"):
            await server.settle()
            assert server.open == 2
        await server.streams.close()
        await on_the_road

    asyncio.run(scenario())


def test_a_session_that_cannot_be_resumed_passes_its_slot_to_a_new_one() -> None:
    async def scenario() -> None:
        server = Server(most=1)
        server.store.away = True
        task = asyncio.create_task(server.serve(resuming(server.streams)))
        await server.settle()
        assert (server.resumed, server.open) == ([False], 1)
        assert await server.serve(resuming(server.streams), "b") is CloseCode.TRY_LATER
        await server.streams.close()
        await task

    asyncio.run(scenario())


def test_no_stream_begins_if_the_server_goes_down_while_its_state_is_fetched() -> None:
    async def scenario() -> None:
        server = Server(most=1)
        server.leave([SESSION])
        task = asyncio.create_task(server.serve(resuming(server.streams)))
        await asyncio.sleep(0)
        await server.streams.close()
        assert await task is CloseCode.TRY_LATER
        kept = await server.store.claim(SESSION, 30)
        assert kept is not None

    asyncio.run(scenario())
