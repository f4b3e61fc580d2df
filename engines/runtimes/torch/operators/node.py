"""What an operator is told when a graph is read: everything but the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor | tuple[Tensor, ...]]
"""The inputs of an operator to its output or outputs."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operator of a graph.

    known: its inputs, None for those that only a run brings. opset: which edition of the operator it is.
    """

    kind: str
    attributes: Mapping[str, Any]
    known: tuple[Tensor | None, ...]
    opset: int = 1

    def whole(self, index: int, default: Sequence[int] | None = None) -> Callable[[tuple[Tensor, ...]], list[int]]:
        """How to get input `index`, which is whole numbers, from all inputs. `default` stands in where it is left out.

        Nearly always it is known when the graph is read; else the host waits for the device to say it.
        """
        if index >= len(self.known):
            if default is None:
                raise ValueError(f"{self.kind} has no input {index}")
            left_out = list(default)
            return lambda _: left_out
        known = self.known[index]
        if known is None:
            return lambda inputs: _numbers(inputs[index])
        numbers = _numbers(known)
        return lambda _: numbers

    def scalar(self, index: int) -> float:
        """Input `index`, which must be known when the graph is read."""
        known = self.known[index]
        if known is None:
            raise ValueError(f"{self.kind} wants its input {index} as a constant")
        return float(known.reshape(()))


Factory = Callable[[GraphNode], Function]
"""Reads an operator's attributes once and gives the function that runs it."""

DTYPES = {
    "boolean": torch.bool,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "u16": torch.int32,  # torch computes in few unsigned types; the next wider signed one holds every value
    "i32": torch.int32,
    "u32": torch.int64,
    "i64": torch.int64,
    "u64": torch.int64,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "f64": torch.float64,
}
"""Torch's type for each element type that graphs use."""


def dtype_of(name: str) -> torch.dtype:
    """Torch's type for OpenVINO's `name`. Raises ValueError where torch has none."""
    if name not in DTYPES:
        raise ValueError(f"torch has no numbers of type {name}")
    return DTYPES[name]


def _numbers(tensor: Tensor) -> list[int]:
    return [int(number) for number in tensor.reshape(-1).tolist()]
