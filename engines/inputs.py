"""The arrays that networks take and give: preprocessing, tensor descriptions and batch sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Inputs or outputs of a graph by name, with the batch as the first dimension."""
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""The batch sizes that runtimes are compiled and warmed up for."""


def batch_sizes_up_to(max_batch: int) -> tuple[int, ...]:
    """The batch sizes of a runtime whose largest batch is `max_batch`, ascending; `max_batch` is always included."""
    return (*(batch_size for batch_size in BATCH_SIZES if batch_size < max_batch), max_batch)


@dataclass(frozen=True, slots=True)
class PixelInput:
    """How uint8 RGB crops become the input of a network: `(x[order] - mean) / std`, computed inside the compiled graph.

    A runtime that is opened with a PixelInput takes (n, height, width, 3) uint8 RGB for that input.
    mean, std: per channel in the order of `order`, in units of 0..255.
    pad: the value of pixels outside the frame: a grey level, 0..255, or "edge" for the nearest pixel of the frame.
    """

    height: int
    width: int
    order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad: int | Literal["edge"] = 0


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph. shape: per item, without the batch dimension; -1 for a dimension that varies."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def fits(self, array: NDArray[Any]) -> bool:
        """True if `array` is a batch of such items."""
        sides = array.shape[1:]
        return (
            array.dtype == self.dtype
            and len(sides) == len(self.shape)
            and all(want in (-1, have) for want, have in zip(self.shape, sides, strict=True))
        )
