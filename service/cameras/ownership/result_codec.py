"""Packs results of cameras for other replicas, as msgpack. Only the types that results consist of can be unpacked.

Arrays become [type, shape, bytes], tuples and lists an array, and dataclasses an object of their fields; each in an
object with one key that says which it is. Nothing is trusted: what does not fit raises ResultError.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import numpy as np
import ormsgpack

from engines.poses import Frame
from service.cameras.feed import CameraResult
from service.streams.frame_processor import ProcessedFrame

_VERSION = 1
_ARRAY, _TUPLE, _MAPPING = "~array", "~tuple", "~mapping"
_TYPES = frozenset("fiub")
"""Of the numbers in arrays: no Python objects."""
_PLAIN = (str, int, float, bool, type(None))

NO_PICTURE: Frame = np.zeros((0, 0, 3), np.uint8)
"""The pixels of results that were sent without a picture."""


class ResultError(ValueError):
    """Bytes are not a result of a camera. The message says why."""


def pack_result(result: CameraResult, picture: bytes = b"") -> bytes:
    """picture: of the frame, as JPEG; empty for none."""
    head = result.number, result.time, result.age, result.dropped
    return ormsgpack.packb([_VERSION, head, _plain(result.processed), picture], option=ormsgpack.OPT_NON_STR_KEYS)


def unpack_result(data: bytes) -> tuple[CameraResult, bytes]:
    """Return a result without its pixels, and the picture; empty for none. Raises ResultError."""
    try:
        document = ormsgpack.unpackb(data, option=ormsgpack.OPT_NON_STR_KEYS)
        match document:
            case [1, [int(number), float(time), float(age), int(dropped)], processed, bytes(picture)]:
                frame = _value(processed)
                if not isinstance(frame, ProcessedFrame):
                    raise ResultError("there are no people in it")
                _check(frame)
                return CameraResult(number, NO_PICTURE, frame, time, age, dropped), picture
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ResultError(f"the bytes are not a result of a camera: {error}") from error
    raise ResultError("the result is of another version")


def _plain(value: Any) -> Any:
    match value:
        case np.ndarray():
            little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
            return {_ARRAY: [value.dtype.str[1:], value.shape, little.tobytes()]}
        case np.generic():
            return value.item()
        case tuple() | list():
            return {_TUPLE: [_plain(item) for item in value]}
        case Mapping():
            return {_MAPPING: [[key, _plain(item)] for key, item in value.items()]}
        case _ if dataclasses.is_dataclass(value):
            members = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
            return {type(value).__name__: members}
        case _ if isinstance(value, _PLAIN):
            return value
    raise TypeError(f"results of cameras cannot have a {type(value).__name__}")


def _value(plain: Any) -> Any:
    if isinstance(plain, _PLAIN):
        return plain
    ((kind, content),) = plain.items()
    match kind:
        case "~array":
            name, shape, data = content
            if name[:1] not in _TYPES:
                raise ValueError("an array is of another type")
            return np.frombuffer(data, np.dtype("<" + name)).reshape(shape)
        case "~tuple":
            return tuple(map(_value, content))
        case "~mapping":
            return {key if isinstance(key, _PLAIN) else tuple(key): _value(item) for key, item in content}
    return _classes()[kind](**{name: _value(item) for name, item in content.items()})


def _check(frame: ProcessedFrame) -> None:
    """Raise ValueError unless all arrays are of the same people."""
    poses, people, keypoints = frame.poses, len(frame.poses.scores), len(frame.poses.skeleton)
    shapes = [
        (poses.keypoints, (people, keypoints, 2)),
        (poses.keypoint_scores, (people, keypoints)),
        (poses.boxes, (people, 4)),
        (frame.velocities, (people, 2)),
        (frame.ages, (people,)),
    ]
    if any(found.shape != wanted for found, wanted in shapes) or (poses.ids is not None and len(poses.ids) != people):
        raise ValueError("its arrays are not of the same people")


@cache
def _classes() -> Mapping[str, type]:
    """The dataclasses that a result consists of, by name."""
    return MappingProxyType({found.__name__: found for found in _dataclasses(ProcessedFrame, set())})


def _dataclasses(hint: Any, seen: set[Any]) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in seen:
        seen.add(hint)
        yield hint
        for inner in get_type_hints(hint).values():
            yield from _dataclasses(inner, seen)
    for inner in get_args(hint):
        yield from _dataclasses(inner, seen)
