"""Any message of a stream's client is accepted, or refused with a code and a reason that fits a close frame."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.api.hello import HelloMessage
from service.media.image_files import NotAnImageError
from service.streams.clock import FrameClock
from service.streams.protocol import CloseCode, Hello, StreamError, read_acknowledgement, read_frame
from tests.fuzz.budget import fuzz

MEMBERS = tuple(HelloMessage.model_fields)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=20,
)
share = st.one_of(st.floats(0, 1), st.floats(), st.integers(0, 1))
point = st.tuples(share, share)
name = st.one_of(st.text(max_size=5), st.sampled_from(["a", "b"]))
zones = st.lists(
    st.fixed_dictionaries(
        {"name": name, "polygon": st.lists(point, max_size=6)},
        optional={"dwell_seconds": st.one_of(st.none(), st.floats())},
    ),
    max_size=3,
)
lines = st.lists(st.fixed_dictionaries({"name": name, "start": point, "end": point}), max_size=3)


rules = st.fixed_dictionaries(
    {},
    optional={
        "angles": st.lists(st.fixed_dictionaries({"name": st.sampled_from(["left_knee", "a"]), "keypoints": anything})),
        "posture": st.booleans(),
        "fall": st.one_of(st.booleans(), st.fixed_dictionaries({"ignore_zones": st.lists(name, max_size=2)}), anything),
        "repetitions": st.lists(
            st.fixed_dictionaries(
                {"name": name, "angle": st.just("left_hip"), "low": st.floats(), "high": st.floats(0, 200)}
            ),
            max_size=2,
        ),
        "counts": st.booleans(),
        "speed": st.fixed_dictionaries(
            {"ground": st.lists(st.tuples(share, share, st.floats(), share), min_size=4, max_size=4)}
        ),
    },
)


def answer(message: str | bytes) -> Hello | StreamError:
    """Return the hello of a first message, or the error."""
    try:
        return HelloMessage.read(message).checked()
    except StreamError as error:
        return error


def check(message: str | bytes) -> None:
    outcome = answer(message)
    if isinstance(outcome, StreamError):
        assert outcome.code in (CloseCode.BAD_HELLO, CloseCode.BAD_MESSAGE)
        assert 0 < len(outcome.reason.encode()) <= 123
        return
    assert 0 <= outcome.min_score <= 1
    assert 0 <= outcome.window <= 64
    assert outcome.smoothing is None or 0.01 <= outcome.smoothing.min_cutoff <= 100
    for zone in outcome.zones:
        assert zone.dwell_seconds is None or math.isfinite(zone.dwell_seconds)


@fuzz(200)
@given(st.one_of(st.text(), st.binary(), st.text(alphabet='{}[]":,0123456789.eE+-\\utrfalsn ')))
def test_any_text(message: str | bytes) -> None:
    check(message)


@fuzz(200)
@given(st.dictionaries(st.one_of(st.sampled_from(MEMBERS), st.text(max_size=20)), anything, max_size=6))
def test_any_members(members: dict[str, Any]) -> None:
    check(json.dumps(members))


@fuzz(200)
@given(st.fixed_dictionaries({}, optional={"zones": zones, "lines": lines, "rules": rules}))
def test_any_zones_lines_and_rules(members: dict[str, Any]) -> None:
    check(json.dumps(members))


@fuzz(200)
@given(st.dictionaries(st.sampled_from(["min_cutoff", "beta", "a"]), st.one_of(anything, st.floats()), max_size=3))
def test_any_smoothing(parameters: dict[str, Any]) -> None:
    check(json.dumps({"smoothing": parameters}))


@fuzz(50)
@given(st.sampled_from(["[", '{"zones":[', '{"a":', '"', "9", "\\"]), st.integers(1, 70_000))
def test_much_of_one_kind(piece: str, times: int) -> None:
    check(piece * times)
    check('{"window":' + piece * times)


@fuzz(200)
@given(st.one_of(st.text(), anything.map(json.dumps), st.integers().map(lambda n: json.dumps({"ack": n}))))
def test_any_acknowledgement(text: str) -> None:
    try:
        number = read_acknowledgement(text)
    except StreamError as refused:
        reason = refused.reason
    else:
        assert json.loads(text) == {"ack": number}
        return
    assert 0 < len(reason.encode()) <= 123


@fuzz(200)
@given(st.binary(max_size=30), st.booleans())
def test_any_frame(message: bytes, timestamps: bool) -> None:
    try:
        stamp, picture = read_frame(message, timestamps)
    except NotAnImageError as refused:
        reason = str(refused)
    else:
        assert stamp is None or math.isfinite(stamp)
        assert message.endswith(picture)
        return
    assert timestamps
    assert len(reason) < 200


@fuzz(200)
@given(st.lists(st.tuples(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), st.floats(0, 100))))
def test_time_never_decreases_and_stays_near_the_servers(frames: list[tuple[float | None, float]]) -> None:
    clock, now, last = FrameClock(), 1e9, -math.inf
    for stamp, passed in frames:
        now += passed
        time = clock.convert(stamp, now)
        assert last <= time <= now
        assert time >= now - 5
        last = time


@fuzz(50)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_timestamp_is_read(stamp: float) -> None:
    assert read_frame(struct.pack(">d", stamp) + b"picture", timestamps=True) == (stamp, b"picture")
