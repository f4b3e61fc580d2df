"""Reading JSON files of users. Values know their location in the file, so that errors can name it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from engines.files import read_small, shown, without_mark
from engines.skeletons import Skeleton

Skeletons = Mapping[str, Skeleton]
"""Skeletons by name."""
Read = TypeVar("Read")

_LARGEST_FILE = 2 << 30
_LARGEST = 1e15
"""Limit of pixels, seconds and scores. The square still fits into single precision."""
_OTHER_FILES = {
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"MATLAB": "a file of MATLAB; PoseTrack's poseval has a program that turns it into JSON",
    b"\x89HDF": "a file of HDF5 or MATLAB; turn it into JSON first",
    b"\x80": "a pickle of Python; turn it into JSON first",
}


class FormatError(ValueError):
    """A file of poses cannot be read. The message says where, what is wrong and what is expected."""


@dataclass(frozen=True, slots=True)
class JsonNode:
    """A value in a JSON file and its location, such as `gt.json: annotations[3].keypoints`."""

    value: Any
    where: str

    @staticmethod
    def read(path: Path) -> JsonNode:
        """Read a file, skipping a byte order mark. Raises FormatError if it cannot be read or is not JSON."""
        name = shown(path)
        try:
            data = without_mark(read_small(path, _LARGEST_FILE))
            return JsonNode(orjson.loads(data), f"{name}: ")
        except OSError as error:
            raise FormatError(f"{name}: cannot be read: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise FormatError(f"{name}: is not JSON: {_not_json(data, error)}") from error
        except UnicodeDecodeError as error:
            raise FormatError(f"{name}: is not JSON: it has the mark of UTF-16, but is not that") from error
        except MemoryError as error:
            raise FormatError(f"{name}: is too large for the memory of this machine") from error

    def error(self, problem: str) -> FormatError:
        return FormatError(f"{self.where.rstrip(' .')} {problem}")

    def has(self, key: str) -> bool:
        """True if the object has the member, even if it is null."""
        if not isinstance(self.value, dict):
            raise self.error(f"must be an object, not {_kind(self.value)}")
        return key in self.value

    def member(self, key: str) -> JsonNode:
        """Return an existing member, which may be null."""
        return JsonNode(self.value[key], f"{self.where}{key}.")

    def get(self, key: str) -> JsonNode | None:
        """Return the member of an object; None if it is missing or null."""
        return self.member(key) if self.has(key) and self.value[key] is not None else None

    def optional(self, key: str, read: Callable[[JsonNode], Read]) -> Read | None:
        """Return what `read` makes of a member, None if the member is missing or null."""
        found = self.get(key)
        return None if found is None else read(found)

    def __getitem__(self, key: str) -> JsonNode:
        found = self.get(key)
        if found is None:
            raise self.error(f"{'has null as' if self.has(key) else 'lacks'} {key!r}")
        return found

    def __iter__(self) -> Iterator[JsonNode]:
        if not isinstance(self.value, list):
            raise self.error(f"must be a list, not {_kind(self.value)}")
        stem = self.where.removesuffix(".")
        return (JsonNode(item, f"{stem}[{n}].") for n, item in enumerate(self.value))

    def by_image(self) -> dict[int, list[JsonNode]]:
        """Group a list of people by their `image_id`."""
        found: dict[int, list[JsonNode]] = {}
        for person in self:
            found.setdefault(person["image_id"].integer(), []).append(person)
        return found

    def flag(self) -> bool:
        """Return 0, 1, true or false as a bool."""
        if not isinstance(self.value, int) or self.value not in (0, 1):
            raise self.error(f"must be 0 or 1, not {_kind(self.value)}")
        return self.value == 1

    def integer(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.error(f"must be a whole number, not {_kind(self.value)}")
        if not -(2**63) <= self.value < 2**63:
            raise self.error(f"must fit into 64 bits, not be {self.value}")
        return self.value

    def number(self) -> float:
        return float(self.numbers(())[()])

    def only(self) -> JsonNode:
        """Return the value itself, or the only item of a list."""
        if not isinstance(self.value, list):
            return self
        if len(self.value) != 1:
            raise self.error(f"must be a list of one, not of {len(self.value)}")
        return next(iter(self))

    def corners(self) -> NDArray[np.float32]:
        """Read a box x, y, width, height as x1, y1, x2, y2."""
        x, y, width, height = self.numbers((4,))
        if width < 0 or height < 0:
            raise self.error(f"must have a width and height of 0 or more, not {width:g} and {height:g}")
        return np.array([x, y, x + width, y + height], np.float32)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error(f"must be a text, not {_kind(self.value)}")
        return self.value

    def numbers(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return finite numbers, listed in any nesting, as an array of `shape`; -1 in the shape is any size."""
        try:
            if _has_truths(self.value):
                raise ValueError
            found = np.array(self.value)
            if found.dtype.kind not in "iuf" and found.size:
                raise ValueError
            with np.errstate(over="ignore"):  # overflows become infinite and are refused below
                found = found.astype(np.float32).reshape(shape)
        except (ValueError, TypeError):
            raise self.error(f"must be {_shape(shape)}, not {_kind(self.value)}") from None
        if not (np.abs(found) <= _LARGEST).all():
            raise self.error(f"must be finite numbers up to {_LARGEST:g}")
        return found


def distinct(nodes: Iterable[JsonNode], what: str, read: Callable[[JsonNode], Read]) -> set[Read]:
    """Return what `read` makes of the nodes. Raises FormatError if two of them give the same."""
    seen: set[Read] = set()
    for node in nodes:
        if (key := read(node)) in seen:
            raise node.error(f"is {key!r}, as that of another {what}; each must have its own")
        seen.add(key)
    return seen


def skeleton_of(keypoints: tuple[str, ...], skeletons: Skeletons, error: Callable[[str], FormatError]) -> Skeleton:
    """Return the skeleton with these keypoints. If there is none, raises what `error` makes of the problem."""
    for skeleton in skeletons.values():
        if keypoints == skeleton.keypoints:
            return skeleton
    raise error(f"are those of none of the skeletons {', '.join(skeletons)}: {' '.join(map(str, keypoints))}")


def _shape(shape: tuple[int, ...]) -> str:
    if not shape:
        return "a number"
    return f"a list of {' x '.join('any' if size < 0 else str(size) for size in shape)} numbers"


def _has_truths(value: object) -> bool:
    """True if booleans are among the numbers. numpy would convert them to 1 and 0."""
    if isinstance(value, list):
        return any(_has_truths(item) for item in value)
    return isinstance(value, bool)


def _not_json(data: bytes, error: orjson.JSONDecodeError) -> str:
    """Describe why a file is not JSON, judging by its bytes."""
    for mark, what in _OTHER_FILES.items():
        if data.startswith(mark):
            return f"it is {what}"
    try:
        text = data.decode()
    except UnicodeDecodeError as wrong:
        return f"it is not UTF-8 from byte {wrong.start} on"
    if not text.strip():
        return "it is empty"
    at = text[error.pos : error.pos + 20].splitlines()[:1]
    found = shown(at[0].encode()) if at else ""
    where = f"line {error.lineno}, column {error.colno}"
    if word := re.match(r"-?(NaN|Infinity)", found.lstrip("-+")):
        return f"{where} has {word[0]}, which is no number of JSON; write null, or leave the person out"
    if not found:
        return f"it breaks off at {where}"
    return f"something else stands at {where}: {found}"


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    kinds = {dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), f"{value!r}"[:40])
