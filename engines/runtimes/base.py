"""The contract of a runtime: one compiled graph that runs batches, arrays in and arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.random import default_rng  # by name: numpy loads it at first use, which threads must not do side by side
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Inputs or outputs of a graph by name, the batch first."""
LADDER = (1, 2, 4, 8, 16, 32)
"""The rungs: batch sizes that runtimes are built and warmed for."""


@dataclass(frozen=True, slots=True)
class PixelInput:
    """How uint8 RGB crops become the input of a network: `(x[order] - mean) / std`, done inside the compiled graph.

    A runtime that is opened with a PixelInput takes (n, height, width, 3) uint8 RGB for that input.
    mean, std: per channel in the order of `order`, in units of 0..255.
    pad: what stands for pixels outside of the frame: this grey, 0..255, or "edge": the nearest pixel of the frame.
    """

    height: int
    width: int
    order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad: int | Literal["edge"] = 0


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph. shape: per item, without the batch dimension; -1 where it varies."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    def fits(self, array: NDArray[Any]) -> bool:
        """Whether `array` is a batch of such items."""
        sides = array.shape[1:]
        return (
            array.dtype == self.dtype
            and len(sides) == len(self.shape)
            and all(want in (-1, have) for want, have in zip(self.shape, sides, strict=True))
        )


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """What a compiled graph takes and gives; the only authority on shapes and batch sizes.

    rungs: the batch sizes it runs without waste, ascending; the last is `max_batch`.
    concurrency: how many `run` calls may usefully be under way at once.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_sizes: tuple[int, ...]
    concurrency: int
    device: str
    precision: str

    @property
    def max_batch(self) -> int:
        """The largest batch of one `run`."""
        return self.batch_sizes[-1]

    def check(self, feeds: Arrays) -> int:
        """The number of items in `feeds`. Raises ValueError, saying what fits, where they are not a batch of this."""
        names = [spec.name for spec in self.inputs]
        if sorted(feeds) != sorted(names):
            raise ValueError(f"the graph's inputs are {', '.join(names)}, not {', '.join(sorted(feeds)) or 'none'}")
        for spec in self.inputs:
            array = feeds[spec.name]
            if not spec.fits(array):
                wanted = ", ".join("any" if side < 0 else str(side) for side in spec.shape)
                raise ValueError(f"{spec.name} takes (n, {wanted}) {spec.dtype}, not {array.shape} {array.dtype}")
        counts = {len(array) for array in feeds.values()}
        if len(counts) != 1 or not 1 <= max(counts) <= self.max_batch:
            raise ValueError(f"a batch has 1..{self.max_batch} items, the same in every input, not {sorted(counts)}")
        return counts.pop()


def cut_into_batch_sizes(count: int, batch_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut a batch of `count` items into (start, stop) pieces that are each a rung: 7 is 4 + 2 + 1."""
    pieces = []
    start = 0
    for batch_size in reversed(batch_sizes):
        while count - start >= batch_size:
            pieces.append((start, start + batch_size))
            start += batch_size
    return pieces


def join_rungs(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One array of all items. Detectors give as many rows as the fullest item of a rung needs; shorter parts are filled
    up with zeros, which is a score that finds nobody.
    """
    inner = np.max([part.shape[1:] for part in parts], axis=0)
    joined = np.zeros((sum(len(part) for part in parts), *inner), parts[0].dtype)
    start = 0
    for part in parts:
        joined[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return joined


def batch_sizes_up_to(most: int) -> tuple[int, ...]:
    """The rungs of a runtime whose largest batch is `most`, which is one of them."""
    return (*(batch_size for batch_size in LADDER if batch_size < most), most)


def batches_independently(infer: Callable[[Arrays], Arrays], inputs: Sequence[TensorSpec]) -> bool:
    """Whether the items of a batch of two come out as they do alone.

    Many exported graphs accept a batch and then mix its items, because a reshape has the batch of one baked in.
    """
    rng = default_rng(0)
    pair = {i.name: rng.integers(0, 255, (2, *i.shape)).astype(i.dtype) for i in inputs}
    try:
        together = infer(pair)
        alone = [infer({name: array[n : n + 1] for name, array in pair.items()}) for n in range(2)]
    except RuntimeError:  # the graph refuses the shape
        return False
    return all(_close(together[name], n, alone[n][name]) for name in together for n in range(2))


def _close(together: NDArray[Any], n: int, alone: NDArray[Any]) -> bool:
    item = together[n : n + 1]
    if len(together) != 2 or item.shape != alone.shape:
        return False
    scale = float(np.abs(alone).max(initial=1.0))
    return bool(np.allclose(item, alone, rtol=0, atol=0.05 * scale))  # bf16 rounds; mixed items differ by their all


class RuntimeClosedError(RuntimeError):
    """`run` was called after `close`."""


class Runtime(Protocol):
    """A compiled graph. `run` may be called from any thread."""

    @property
    def spec(self) -> RuntimeSpec:
        """Names, shapes, dtypes and batch sizes, as read from the compiled graph."""

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run one batch of 1..max_batch items.

        Raises ValueError where names, shapes, dtypes or the batch size do not fit the spec, RuntimeClosedError after
        close. The arrays returned belong to the caller.
        """

    def release(self) -> None:
        """Give back what is only kept for the next batch, which then takes a little longer. Does nothing in use."""

    def close(self) -> None:
        """Free the graph once the calls under way have ended. Closing twice is fine."""
