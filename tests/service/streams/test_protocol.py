"""The messages of a stream as bytes, and close reasons."""

from __future__ import annotations

import json
import struct

import numpy as np
import ormsgpack
import pytest

from service.media.image_files import NotAnImageError
from service.streams.protocol import CloseCode, Hello, StreamError, embed, encode, read_acknowledgement, read_frame
from service.tracking.smoothing import OneEuroConfig
from service.tracking.zones import Line, Zone
from service.tracking_workers.state import TrackingOptions


def test_a_frame_has_a_timestamp_if_the_hello_announced_them() -> None:
    assert read_frame(b"picture", timestamps=False) == (None, b"picture")
    assert read_frame(struct.pack(">d", 1234.5) + b"picture", timestamps=True) == (1234.5, b"picture")


@pytest.mark.parametrize("message", [b"", b"short", struct.pack(">d", float("nan")), struct.pack(">d", float("inf"))])
def test_an_invalid_timestamp_is_an_error_of_the_frame(message: bytes) -> None:
    with pytest.raises(NotAnImageError, match="timestamp"):
        read_frame(message, timestamps=True)


def test_acknowledgements() -> None:
    assert read_acknowledgement('{"ack": 17}') == 17


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "17", "{}", '{"ack": "17"}', '{"ack": 1.5}', '{"ack": true}', '{"ack": 1, "more": 2}', "hi"]
)
def test_other_text_ends_the_stream(text: str) -> None:
    with pytest.raises(StreamError, match="text message") as refusal:
        read_acknowledgement(text)
    assert refusal.value.code is CloseCode.BAD_MESSAGE


def test_both_encodings_have_the_same_content() -> None:
    people = [{"id": np.int64(3), "box": np.array([1.5, 2, 3, 4], np.float32), "score": np.float32(0.5)}]
    for part in (people, embed(people, "json")):
        text = encode({"type": "result", "people": part}, "json")
        assert isinstance(text, str)
        assert json.loads(text) == {
            "type": "result",
            "people": [{"id": 3, "box": [1.5, 2.0, 3.0, 4.0], "score": 0.5}],
        }
    for part in (people, embed(people, "msgpack")):
        data = encode({"type": "result", "people": part}, "msgpack")
        assert isinstance(data, bytes)
        assert ormsgpack.unpackb(data) == json.loads(text)


def test_tracking_options_of_a_hello() -> None:
    zones, lines = (Zone("a", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),), (Line("a", (0, 0), (1, 1)),)
    smoothing = OneEuroConfig(min_cutoff=0.5)
    hello = Hello(model="tiny", smoothing=smoothing, extras=True, zones=zones, lines=lines)
    assert hello.tracking == TrackingOptions(smoothing=smoothing, extras=True, zones=zones, lines=lines)


def test_a_reason_fits_a_close_frame() -> None:
    assert len(StreamError(CloseCode.BAD_HELLO, "ä" * 200).reason.encode()) <= 123
