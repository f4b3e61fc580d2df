"""Reading JSON that others wrote: every value knows where it is, so that what is wrong can be named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.formats.errors import FormatError


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a JSON file and its place in it, as in `gt.json: annotations[3].keypoints`."""

    value: Any
    where: str

    @staticmethod
    def read(path: Path) -> Node:
        """The whole file. Raises FormatError for one that cannot be read or is not JSON."""
        try:
            return Node(orjson.loads(path.read_bytes()), f"{path}: ")
        except OSError as error:
            raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise FormatError(f"{path}: is not JSON: {error}") from error

    def error(self, problem: str) -> FormatError:
        """What to raise for a problem with this value."""
        return FormatError(f"{self.where.rstrip(' .')} {problem}")

    def get(self, key: str) -> Node | None:
        """The member of an object, or None where it has none or it is null."""
        if not isinstance(self.value, dict):
            raise self.error(f"must be an object, not {_kind(self.value)}")
        found = self.value.get(key)
        return None if found is None else Node(found, f"{self.where}{key}.")

    def __getitem__(self, key: str) -> Node:
        found = self.get(key)
        if found is None:
            raise self.error(f"lacks {key!r}")
        return found

    def __iter__(self) -> Iterator[Node]:
        if not isinstance(self.value, list):
            raise self.error(f"must be a list, not {_kind(self.value)}")
        stem = self.where.removesuffix(".")
        return (Node(item, f"{stem}[{n}].") for n, item in enumerate(self.value))

    def integer(self) -> int:
        """A whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.error(f"must be a whole number, not {_kind(self.value)}")
        if not -(2**63) <= self.value < 2**63:
            raise self.error(f"must fit into 64 bits, not be {self.value}")
        return self.value

    def number(self) -> float:
        """A finite number."""
        return float(self.numbers(())[()])

    def only(self) -> Node:
        """The value itself, or the only one of its list."""
        if not isinstance(self.value, list):
            return self
        if len(self.value) != 1:
            raise self.error(f"must be a list of one, not of {len(self.value)}")
        return next(iter(self))

    def corners(self) -> NDArray[np.float32]:
        """The box x1, y1, x2, y2 of four numbers x, y, width, height."""
        x, y, width, height = self.numbers((4,))
        return np.array([x, y, x + width, y + height], np.float32)

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self.error(f"must be a text, not {_kind(self.value)}")
        return self.value

    def numbers(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Finite numbers as an array of `shape`, listed in any nesting; -1 in the shape is any size."""
        try:
            found = np.array(self.value)
            if found.dtype.kind not in "iuf" and found.size:
                raise ValueError
            with np.errstate(over="ignore"):  # too large is infinite, which is refused below
                found = found.astype(np.float32).reshape(shape)
        except (ValueError, TypeError):
            raise self.error(f"must be {_shape(shape)}, not {_kind(self.value)}") from None
        if not np.isfinite(found).all():
            raise self.error("must be finite numbers")
        return found


def _shape(shape: tuple[int, ...]) -> str:
    if not shape:
        return "a number"
    return f"a list of {' x '.join('any' if size < 0 else str(size) for size in shape)} numbers"


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    kinds = {dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), f"{value!r}")
