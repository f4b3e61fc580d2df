"""One connection with failures: of the network, of the server, and of a client that does not read."""

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
from service.streams.flow_control import ConcurrencyLimiter
from service.streams.frame_processor import ProcessedFrame
from service.streams.protocol import CloseCode, Hello, StreamError
from service.streams.session import Session, SessionLimits, SessionObserver

NOBODY = ProcessedFrame(
    Poses.empty(COCO_17), np.zeros((0, 2), np.float32), np.zeros(0, np.float32), [], 640, 480, {"queue": 0.001}
)
OVERLOADED = OverloadedError("busy", reason="full", retry_after_s=1.0)


class FakeChannel:
    """A connection to a client that sends `frames` frames. stuck: sending blocks after the welcome."""

    def __init__(self, frames: int, *, stuck: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self._frames = frames
        self._stuck = stuck
        self._answered = asyncio.Event()

    async def receive(self) -> bytes:
        """Return one frame for every answer, so that none is dropped. A stuck client sends one every 10 ms."""
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


class FakeProcessor:
    """A FrameProcessor that returns or raises the given outcomes. times: the timestamps of its frames."""

    def __init__(self, outcomes: Sequence[ProcessedFrame | Exception]) -> None:
        self.state, self.next_id = b"", 1
        self.times: list[float] = []
        self._outcomes = iter(outcomes)

    async def process(
        self, _picture: bytes, taken: float, _deadline: float, _earlier: Sequence[bytes] = ()
    ) -> ProcessedFrame:
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
    """Return how a stream with these outcomes ends, and what it sent after the welcome."""

    async def scenario() -> tuple[StreamError, list[dict[str, Any]]]:
        channel = FakeChannel(len(outcomes), stuck=stuck)
        session = Session(
            channel, Hello(window=0), "json", FakeProcessor(outcomes), SessionLimits(frame=1.0, idle=0.1),  # type: ignore[arg-type]
            ConcurrencyLimiter(time.monotonic), token=lambda sequence, _: f"token {sequence}", describe=describe,
            observer=SessionObserver(), memory=memory,
        )  # fmt: skip
        asyncio.get_running_loop().call_later(0.02, act, session)
        with pytest.raises(StreamError) as end:
            await session.run({})
        return end.value, channel.sent[1:]

    return asyncio.run(scenario())


def test_defects_are_reported_and_five_in_a_row_end_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    end, sent = live([ZeroDivisionError()] * 4 + [NOBODY] + [ZeroDivisionError()] * 5)
    assert [message["type"] for message in sent] == ["error"] * 4 + ["result"] + ["error"] * 5
    assert sent[0]["error"] == {"title": "The server failed on this frame"}
    assert end.code is CloseCode.FAILED
    assert len(caplog.records) == 9


@pytest.mark.parametrize("error", [OVERLOADED, DeadlineExceededError("late")])
def test_overload_does_not_end_a_stream(error: Exception) -> None:
    end, sent = live([error] * 10 + [NOBODY])
    assert [message["type"] for message in sent] == ["error"] * 10 + ["result"]
    assert end.code is CloseCode.SILENT


def test_closed_queues_mean_that_the_server_is_going_away() -> None:
    end, sent = live([ClosedError("closed")])
    assert end.code is CloseCode.GOING_AWAY
    assert len(sent) == 1


def test_a_client_that_does_not_read_is_disconnected() -> None:
    end, _ = live([NOBODY], stuck=True)
    assert (end.code, end.reason) == (CloseCode.GONE, "nothing was read for 0.1 s")


def test_frames_hold_memory_while_they_wait_and_are_processed() -> None:
    enough, too_little = Quota("bytes of memory", 5), Quota("bytes of memory", 4)
    end, sent = live([NOBODY] * 3, memory=enough.take("10.0.0.1", 0))
    assert (end.code, len(sent), enough.held) == (CloseCode.SILENT, 3, 0)
    end, sent = live([NOBODY], memory=too_little.take("10.0.0.1", 0))
    assert (end.code, sent) == (CloseCode.TRY_LATER, [])


def test_only_the_first_call_of_end_counts() -> None:
    def act(session: Session) -> None:
        session.end(CloseCode.REPLACED, "first")
        session.end(CloseCode.GOING_AWAY, "second")

    end, _ = live([NOBODY], act=act)
    assert (end.code, end.reason) == (CloseCode.REPLACED, "first")


def test_results_within_a_second_have_the_same_token() -> None:
    _, sent = live([NOBODY] * 3)
    assert {message["token"] for message in sent} == {"token 0"}
    assert [message["frame"] for message in sent] == [0, 1, 2]


@pytest.mark.parametrize("skew", [-20.0, 0.0, 20.0, 1e8])
def test_a_resumed_session_continues_its_own_time_whatever_the_clock_says(skew: float) -> None:
    """Its last frame was captured at 1e9, four seconds ago, on another server."""
    processor = FakeProcessor([NOBODY] * 3)
    ages: list[float] = []

    async def scenario() -> None:
        session = Session(
            FakeChannel(3), Hello(window=0), "json", processor, SessionLimits(frame=1.0, idle=0.2),  # type: ignore[arg-type]
            ConcurrencyLimiter(time.monotonic), token=lambda *_: "", describe=describe, observer=SessionObserver(),
            last=1e9, gap=4.0, wall=lambda: 1e9 + 4 + skew,
        )  # fmt: skip
        ages.append(session.age)
        with pytest.raises(StreamError):
            await session.run({})
        ages.append(session.age)

    asyncio.run(scenario())
    assert processor.times == sorted(processor.times)
    assert 1e9 + 4 <= processor.times[0] <= processor.times[-1] < 1e9 + 5
    assert 4 <= ages[0] < 5
    assert 0.2 <= ages[1] < 1  # since its own last frame


def test_a_new_session_has_no_age() -> None:
    async def scenario() -> None:
        session = Session(
            FakeChannel(0), Hello(), "json", FakeProcessor([]), SessionLimits(frame=1.0, idle=0.2),  # type: ignore[arg-type]
            ConcurrencyLimiter(time.monotonic), token=lambda *_: "", describe=describe, observer=SessionObserver(),
        )  # fmt: skip
        assert session.age == 0

    asyncio.run(scenario())
