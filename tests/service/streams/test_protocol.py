"""Messages of a stream as bytes."""

from __future__ import annotations

import json
import struct

import numpy as np
import ormsgpack
import pytest

from service.media.image_files import NotAnImageError
from service.streams.closing import CloseCode, StreamError
from service.streams.protocol import Hello, embed, encode, read_acknowledgement, read_frame
from service.tracking.zones import Line, Zone


def test_a_frame_is_the_picture_alone_unless_timestamps_were_announced() -> None:
    assert read_frame(b"picture", timestamps=False) == (None, b"picture")
    assert read_frame(struct.pack(">d", 1234.5) + b"picture", timestamps=True) == (1234.5, b"picture")


@pytest.mark.parametrize("message", [b"", b"short", struct.pack(">d", float("nan")), struct.pack(">d", float("inf"))])
def test_a_timestamp_that_is_none_is_the_frames_error(message: bytes) -> None:
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


def test_both_encodings_say_the_same() -> None:
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


def test_zones_have_a_name_by_what_they_are() -> None:
    square = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    assert Hello().places == ""
    here, there = Hello(zones=(Zone("a", square),)), Hello(zones=(Zone("b", square),))
    assert here.places == Hello(zones=(Zone("a", square),)).places
    assert len({here.places, there.places, Hello(lines=(Line("a", (0, 0), (1, 1)),)).places}) == 3


def test_a_reason_fits_its_frame() -> None:
    assert len(StreamError(CloseCode.BAD_HELLO, "ä" * 200).reason.encode()) <= 123
