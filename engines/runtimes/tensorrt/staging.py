"""Where the arrays of a batch lie in one piece of memory, on the host and at the same offsets on the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.runtimes.base import TensorSpec

_ALIGNMENT = 256
"""Bytes; what TensorRT asks of the address of a tensor."""


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a batch. offset: of its first byte. item: bytes of one item."""

    name: str
    offset: int
    item: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True, slots=True)
class Layout:
    """Arrays for `most` items each, one behind the other; a smaller batch takes the beginning of each."""

    fields: tuple[Field, ...]
    size: int
    most: int

    @classmethod
    def of(cls, specs: Sequence[TensorSpec], most: int) -> Layout:
        """For arrays of these specs, whose sides are all known."""
        fields = []
        end = 0
        for spec in specs:
            item = math.prod(spec.shape) * spec.dtype.itemsize
            fields.append(Field(spec.name, end, item, spec.shape, spec.dtype))
            end += -(-item * most // _ALIGNMENT) * _ALIGNMENT
        return cls(tuple(fields), end, most)

    def views(self, memory: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The arrays within `memory`, each (most, *shape)."""
        return {
            field.name: memory[field.offset : field.offset + field.item * self.most]
            .view(field.dtype)
            .reshape(self.most, *field.shape)
            for field in self.fields
        }

    def addresses(self, base: int) -> dict[str, int]:
        """Where each array begins in memory that begins at `base`."""
        return {field.name: base + field.offset for field in self.fields}
