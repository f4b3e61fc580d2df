"""All streams of a server: who may begin, with what memory."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from engines.skeletons import COCO_17, POSETRACK_15
from service.streams.closing import CloseCode, StreamError
from service.streams.codec import pack
from service.streams.memory import Memory
from service.streams.memory_store import MemoryStore
from service.streams.registry import Beginning, Streams
from service.streams.store import Kept
from service.streams.tokens import Tokens, new_session
from service.tracking import PoseTracker
from service.tracking.zones import ZonesState

STATE = replace(PoseTracker(COCO_17).state(), next_id=7)
SESSION = new_session()


def begin(stored: bytes | None, skeleton: str = "coco-17") -> Beginning:
    """How a stream begins that resumes SESSION, whose stored state is this."""

    async def story() -> Beginning:
        store = MemoryStore()
        streams = Streams(store, Tokens("key", 30), most=1, resume_seconds=30)
        if stored is not None:
            store.keep(SESSION, Kept(1, 5, stored), 30)
        try:
            return await streams.begin(streams.token(SESSION, 12, 7), skeleton)
        finally:
            await streams.close()

    return asyncio.run(story())


def test_a_token_brings_the_session_its_sequence_and_its_memory_back() -> None:
    beginning = begin(pack(Memory(STATE, ZonesState())))
    assert (beginning.session, beginning.sequence, beginning.why) == (SESSION, 12, "")
    assert beginning.generation == 2
    assert beginning.memory is not None
    assert beginning.memory.tracker.next_id == 7


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


def test_when_going_down_nobody_begins() -> None:
    async def story() -> None:
        streams = Streams(MemoryStore(), Tokens("key", 30), most=1, resume_seconds=30)
        await streams.go_away(1.0)
        with pytest.raises(StreamError) as refusal:
            await streams.begin("", "coco-17")
        assert refusal.value.code is CloseCode.TRY_LATER
        await streams.close()

    asyncio.run(story())


def test_those_who_say_no_hello_are_bounded_too() -> None:
    async def story() -> None:
        streams = Streams(MemoryStore(), Tokens("key", 30), most=1, resume_seconds=30)
        with streams.greeting(), pytest.raises(StreamError, match="1 connections have not said hello"):
            streams.greeting().__enter__()
        with streams.greeting():
            pass
        await streams.close()

    asyncio.run(story())
