"""The contract of a runtime: one compiled graph that runs batches, arrays in and arrays out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.random import (
    default_rng,  # imported by name: numpy loads it lazily, which is not safe in two threads at once
)
from numpy.typing import NDArray

from engines.inputs import Arrays, TensorSpec


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """The inputs, outputs and batch sizes of a compiled graph; the only authority on them.

    batch_sizes: the batch sizes that run without padding or splitting, ascending; the last is `max_batch`.
    concurrency: how many calls of `run` can usefully be under way at once. device: its name, for people. on_cpu: the
    threads that call `run` compute.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch_sizes: tuple[int, ...]
    concurrency: int
    device: str
    precision: str
    on_cpu: bool = False

    @property
    def max_batch(self) -> int:
        """The largest batch of one `run`."""
        return self.batch_sizes[-1]

    def check(self, feeds: Arrays) -> int:
        """Return the number of items in `feeds`. Raises ValueError, naming what fits, if they are not a valid batch."""
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


class RuntimeClosedError(RuntimeError):
    """`run` was called after `close`."""


class Runtime(Protocol):
    """A compiled graph. `run` may be called from any thread."""

    @property
    def spec(self) -> RuntimeSpec:
        """Names, shapes, dtypes and batch sizes, as read from the compiled graph."""

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run one batch of 1..max_batch items.

        Raises ValueError if names, shapes, dtypes or the batch size do not fit the spec, RuntimeClosedError after
        close. The returned arrays belong to the caller.
        """

    def release(self, *, unused: bool = False) -> None:
        """Free memory that is only kept for the next batch, which then takes a little longer.

        unused: only memory that no batch has needed since the last call, also while the runtime is in use. Otherwise
        does nothing while in use.
        """

    def close(self) -> None:
        """Free the graph once the calls under way have ended. Closing twice is allowed."""


def cut_into_batch_sizes(count: int, batch_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut a batch of `count` items into (start, stop) pieces, each of one of the batch sizes: 7 is 4 + 2 + 1."""
    pieces = []
    start = 0
    for batch_size in reversed(batch_sizes):
        while count - start >= batch_size:
            pieces.append((start, start + batch_size))
            start += batch_size
    return pieces


def join_batches(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate the outputs of several batches.

    Detectors give as many rows per item as the fullest item of a batch needs. Shorter parts are padded with zeros,
    which is a score that finds nobody.
    """
    inner = np.max([part.shape[1:] for part in parts], axis=0)
    joined = np.zeros((sum(len(part) for part in parts), *inner), parts[0].dtype)
    start = 0
    for part in parts:
        joined[(slice(start, start + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        start += len(part)
    return joined


def batches_independently(infer: Callable[[Arrays], Arrays], inputs: Sequence[TensorSpec], count: int = 2) -> bool:
    """True if the items of a batch of `count` give the same outputs as they do alone.

    Many exported graphs accept a batch and then mix its items, because a reshape has a batch of one baked in.
    """
    rng = default_rng(0)
    batch = {i.name: rng.integers(0, 255, (count, *i.shape)).astype(i.dtype) for i in inputs}
    try:
        together = infer(batch)
        alone = [infer({name: array[n : n + 1] for name, array in batch.items()}) for n in range(count)]
    except RuntimeError:  # the graph refuses the shape
        return False
    return all(
        len(together[name]) == count and _close(together[name][n : n + 1], alone[n][name])
        for name in together
        for n in range(count)
    )


def _close(item: NDArray[Any], alone: NDArray[Any]) -> bool:
    if item.shape != alone.shape:
        return False
    scale = float(np.abs(alone).max(initial=1.0))
    return bool(np.allclose(item, alone, rtol=0, atol=0.05 * scale))  # above bf16 rounding, far below mixed items
