"""The life of one connection, where it goes wrong: the network, the server, a client that takes nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.batching import ClosedError, DeadlineExceededError, OverloadedError
from service.quota import Lease, Quota
from service.streams.closing import CloseCode, StreamError
from service.streams.concurrency import ConcurrencyLimiter
from service.streams.frame_processor import ProcessedFrame
from service.streams.protocol import Hello
from service.streams.session import Session, SessionLimits, SessionObserver

NOBODY = ProcessedFrame(
    Poses.empty(COCO_17), np.zeros((0, 2), np.float32), np.zeros(0, np.float32), [], 640, 480, {"queue": 0.001}
)
OVERLOADED = OverloadedError("busy", reason="full", retry_after_s=1.0)


class Wire:
    """A connection whose other end is this test. stuck: whoever sends waits for ever."""

    def __init__(self, frames: int, *, stuck: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self._frames = frames
        self._stuck = stuck
        self._answered = asyncio.Event()

    async def receive(self) -> bytes:
        """One frame for every answer, so that none is passed over; from a client that takes none, one after another."""
        if self._stuck:
            await asyncio.sleep(0.01)
            return b"frame"
        if not self._frames:
            await asyncio.Event().wait()
        await self._answered.wait()  # the welcome counts as one
        self._answered.clear()
        self._frames -= 1
        return b"frame"

    async def send(self, message: str | bytes) -> None:
        if self._stuck and self.sent:
            await asyncio.Event().wait()
        self.sent.append(json.loads(message))
        self._answered.set()


class Outcomes:
    """In place of a Sight: sees what it was told, or raises it."""

    def __init__(self, outcomes: Sequence[ProcessedFrame | Exception]) -> None:
        self.state, self.next_id = b"", 1
        self.times: list[float] = []
        self._outcomes = iter(outcomes)

    async def see(self, _picture: bytes, taken: float, _deadline: float) -> ProcessedFrame:
        self.times.append(taken)
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def describe(error: Exception) -> Mapping[str, Any] | None:
    return None if isinstance(error, ZeroDivisionError) else {"title": str(error)}


def live(
    outcomes: Sequence[ProcessedFrame | Exception],
    *,
    stuck: bool = False,
    act: Callable[[Session], None] = lambda _: None,
    memory: Lease | None = None,
) -> tuple[StreamError, list[dict[str, Any]]]:
    """How such a stream ends, and all that was said after the welcome."""

    async def story() -> tuple[StreamError, list[dict[str, Any]]]:
        wire = Wire(len(outcomes), stuck=stuck)
        session = Session(
            wire, Hello(window=0), "json", Outcomes(outcomes), SessionLimits(frame=1.0, idle=0.1),  # type: ignore[arg-type]
            ConcurrencyLimiter(time.monotonic), token=lambda sequence, _: f"token {sequence}", describe=describe,
            observer=SessionObserver(), memory=memory,
        )  # fmt: skip
        asyncio.get_running_loop().call_later(0.02, act, session)
        with pytest.raises(StreamError) as end:
            await session.run({})
        return end.value, wire.sent[1:]

    return asyncio.run(story())


def test_defects_are_told_as_such_and_five_in_a_row_end_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    end, sent = live([ZeroDivisionError()] * 4 + [NOBODY] + [ZeroDivisionError()] * 5)
    assert [message["type"] for message in sent] == ["error"] * 4 + ["result"] + ["error"] * 5
    assert sent[0]["error"] == {"title": "The server failed on this frame"}
    assert end.code is CloseCode.FAILED
    assert len(caplog.records) == 9


@pytest.mark.parametrize("passing", [OVERLOADED, DeadlineExceededError("late")])
def test_what_is_nobodys_fault_ends_no_stream(passing: Exception) -> None:
    end, sent = live([passing] * 10 + [NOBODY])
    assert [message["type"] for message in sent] == ["error"] * 10 + ["result"]
    assert end.code is CloseCode.SILENT


def test_when_the_queues_close_the_server_is_going_away() -> None:
    end, sent = live([ClosedError("closed")])
    assert end.code is CloseCode.GOING_AWAY
    assert len(sent) == 1


def test_a_client_that_takes_nothing_is_let_go() -> None:
    end, _ = live([NOBODY], stuck=True)
    assert (end.code, end.reason) == (CloseCode.GONE, "nothing was read for 0.1 s")


def test_frames_count_in_the_memory_of_the_server_while_they_wait_and_are_looked_at() -> None:
    enough, too_little = Quota("bytes of memory", 5), Quota("bytes of memory", 4)
    end, sent = live([NOBODY] * 3, memory=enough.take("10.0.0.1", 0))
    assert (end.code, len(sent), enough.held) == (CloseCode.SILENT, 3, 0)
    end, sent = live([NOBODY], memory=too_little.take("10.0.0.1", 0))
    assert (end.code, sent) == (CloseCode.TRY_LATER, [])


def test_a_stream_is_ended_from_outside_once() -> None:
    def act(session: Session) -> None:
        session.end(CloseCode.REPLACED, "first")
        session.end(CloseCode.GOING_AWAY, "second")

    end, _ = live([NOBODY], act=act)
    assert (end.code, end.reason) == (CloseCode.REPLACED, "first")


def test_results_carry_the_token_of_the_second() -> None:
    _, sent = live([NOBODY] * 3)
    assert {message["token"] for message in sent} == {"token 0"}
    assert [message["frame"] for message in sent] == [0, 1, 2]


@pytest.mark.parametrize("skew", [-20.0, 0.0, 20.0, 1e8])
def test_a_resumed_session_keeps_its_own_time_whatever_the_clock_says(skew: float) -> None:
    """Four seconds ago, somewhere else, its last frame was taken at 1e9."""
    processor = Outcomes([NOBODY] * 3)
    ages: list[float] = []

    async def story() -> None:
        session = Session(
            Wire(3), Hello(window=0), "json", processor, SessionLimits(frame=1.0, idle=0.2),  # type: ignore[arg-type]
            ConcurrencyLimiter(time.monotonic), token=lambda *_: "", describe=describe, observer=SessionObserver(),
            last=1e9, gap=4.0, wall=lambda: 1e9 + 4 + skew,
        )  # fmt: skip
        ages.append(session.age)
        with pytest.raises(StreamError):
            await session.run({})
        ages.append(session.age)

    asyncio.run(story())
    assert processor.times == sorted(processor.times)
    assert 1e9 + 4 <= processor.times[0] <= processor.times[-1] < 1e9 + 5
    assert 4 <= ages[0] < 5
    assert 0.2 <= ages[1] < 1  # since its own last frame


def test_a_new_session_has_the_time_of_the_clock_and_no_age() -> None:
    async def story() -> None:
        session = Session(
            Wire(0), Hello(), "json", Outcomes([]), SessionLimits(frame=1.0, idle=0.2),  # type: ignore[arg-type]
            ConcurrencyLimiter(time.monotonic), token=lambda *_: "", describe=describe, observer=SessionObserver(),
        )  # fmt: skip
        assert session.age == 0

    asyncio.run(story())
