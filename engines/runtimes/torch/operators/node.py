"""A node of a graph while it is compiled: its operator, attributes and constant inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor | tuple[Tensor, ...]]
"""Maps the inputs of an operator to its output or outputs."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One node of a graph.

    kind: the operator. known: the inputs, None for those that are not constant. opset: the version of the operator.
    """

    kind: str
    attributes: Mapping[str, Any]
    known: tuple[Tensor | None, ...]
    opset: int = 1

    def integers(self, index: int, default: Sequence[int] | None = None) -> Callable[[tuple[Tensor, ...]], list[int]]:
        """A function that reads the integers of input `index` from all inputs. default: used if the input is missing.

        The input is nearly always constant. If it is not, each call waits for the device to compute it.
        """
        if index >= len(self.known):
            if default is None:
                raise ValueError(f"{self.kind} has no input {index}")
            fallback = list(default)
            return lambda _: fallback
        known = self.known[index]
        if known is None:
            return lambda inputs: _to_integers(inputs[index])
        integers = _to_integers(known)
        return lambda _: integers

    def scalar(self, index: int) -> float:
        """The value of input `index`, which must be constant."""
        known = self.known[index]
        if known is None:
            raise ValueError(f"{self.kind} wants its input {index} as a constant")
        return float(known.reshape(()))


Factory = Callable[[GraphNode], Function]
"""Reads the attributes of a node once and returns the function that computes it."""

DTYPES = {
    "boolean": torch.bool,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "u16": torch.int32,  # torch has few unsigned types; the next wider signed type holds every value
    "i32": torch.int32,
    "u32": torch.int64,
    "i64": torch.int64,
    "u64": torch.int64,
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "f64": torch.float64,
}
"""The torch type of each OpenVINO element type."""


def dtype_of(name: str) -> torch.dtype:
    """The torch type of the OpenVINO type `name`. Raises ValueError if there is none."""
    if name not in DTYPES:
        raise ValueError(f"torch has no numbers of type {name}")
    return DTYPES[name]


def _to_integers(tensor: Tensor) -> list[int]:
    return [int(number) for number in tensor.reshape(-1).tolist()]
