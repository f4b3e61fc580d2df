"""Networks for person re-identification, which turn a crop of a person into an embedding: OSNet and others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from engines.families.base import Shapes, dimension
from engines.inputs import Arrays, PixelInput
from engines.poses import Floats, Region

MOST_VALUES = 2048
"""The largest embedding, which trackers store for every person."""


@dataclass(eq=False)
class Embedding:
    """The first output, or the one named `output`, is an embedding (n, D) of a crop that the person's box fills.

    Two crops with embeddings at the angle a show one person with the log odds `slope (cos(a) - middle)`, if nothing
    else is known. Both depend on the network, and have to be measured.
    Raises ValueError if they are not finite, or the slope is not positive.
    """

    pixels: PixelInput
    _: KW_ONLY
    output: str | None = None
    middle: float = 0.6
    slope: float = 15.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.middle) and math.isfinite(self.slope) and self.slope > 0):
            raise ValueError(f"middle {self.middle} and slope {self.slope} must be numbers, and the slope positive")

    @property
    def outputs(self) -> tuple[str, ...] | None:
        return None if self.output is None else (self.output,)

    def size(self, outputs: Shapes) -> int:
        """The number D of values of a graph with these outputs. Raises ValueError if it gives no embedding."""
        name = self.output or next(iter(outputs), "")
        shape = outputs.get(name, ())
        size = math.prod(shape)
        if dimension(outputs, name, 0) is None or len(shape) not in (1, 3) or not 2 <= size <= MOST_VALUES:
            raise ValueError(f"output {name} is {shape} per crop; an embedding has 2 to {MOST_VALUES} values")
        return size

    def regions(self, boxes: Floats) -> list[Region]:
        """The region to crop for each box (N, 4)."""
        x1, y1, x2, y2 = boxes.T.astype(float)
        sides = np.maximum(x2 - x1, 1), np.maximum(y2 - y1, 1)
        columns = ((x1 + x2) / 2, (y1 + y2) / 2, *sides)
        return [Region(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Floats:
        """Embeddings (N, D) of length 1, one per region of the batch; zeros where the network gave no numbers."""
        array = next(iter(outputs.values())) if self.output is None else outputs[self.output]
        rows = array.reshape(len(regions), -1).astype(np.float32)
        rows[~np.isfinite(rows).all(axis=1)] = 0
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        value: Floats = (rows / np.maximum(length, 1e-12)).astype(np.float32)
        return value
