"""The arrays that networks take and give: preprocessing, tensor descriptions and batch sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator

Arrays = Mapping[str, NDArray[Any]]
"""Inputs or outputs of a graph by name, with the batch as the first dimension."""
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""The batch sizes that runtimes are compiled and warmed up for."""


def batch_sizes_up_to(max_batch: int) -> tuple[int, ...]:
    """The batch sizes of a runtime whose largest batch is `max_batch`, ascending; `max_batch` is always included."""
    return (*(batch_size for batch_size in BATCH_SIZES if batch_size < max_batch), max_batch)


def _pad(value: object) -> object:
    if value != "edge" and not (type(value) is int and 0 <= value <= 255):
        raise ValueError('it must be a whole number from 0 to 255, or "edge"')
    return value


Side = Annotated[int, Field(strict=True, ge=1, le=4096)]
Level = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Scale = Annotated[Level, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class PixelInput:
    """How uint8 RGB crops become the input of a network: `(x[order] - mean) / std`, computed inside the compiled graph.

    A runtime that is opened with a PixelInput takes (n, height, width, 3) uint8 RGB for that input.
    mean, std: per channel in the order of `order`, in units of 0..255.
    pad: the value of pixels outside the frame: a grey level, 0..255, or "edge" for the nearest pixel of the frame.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # pydantic validates those in catalogues, by these annotations

    height: Side
    width: Side
    order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[Level, Level, Level] = (0.0, 0.0, 0.0)
    std: tuple[Scale, Scale, Scale] = (1.0, 1.0, 1.0)
    pad: Annotated[int | Literal["edge"], BeforeValidator(_pad)] = 0


DType = Annotated[np.dtype[np.generic], PlainValidator(np.dtype), PlainSerializer(lambda dtype: dtype.name)]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph. shape: per item, without the batch dimension; -1 for a dimension that varies."""

    name: str
    shape: tuple[int, ...]
    dtype: DType

    def fits(self, array: NDArray[Any]) -> bool:
        """True if `array` is a batch of such items."""
        sides = array.shape[1:]
        return (
            array.dtype == self.dtype
            and len(sides) == len(self.shape)
            and all(want in (-1, have) for want, have in zip(self.shape, sides, strict=True))
        )


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph file. shape: with the batch; -1 for a dimension that varies."""

    name: str
    shape: tuple[int, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('any' if side < 0 else str(side) for side in self.shape)})"


@dataclass(frozen=True, slots=True)
class GraphPorts:
    """What a graph file takes and gives: one image of height x width pixels, and perhaps its size. image: the port."""

    image: Port
    height: int
    width: int
    outputs: tuple[Port, ...]
