"""A graph as a list of torch functions, made for one batch size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from engines.runtimes.openvino.precision import in_half
from engines.runtimes.torch.operators import OPERATORS, Function, GraphNode, dtype_of

_Place = tuple[str, int]
"""One value of the graph: the name of the node that gives it, and which of its outputs."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call. inputs, outputs: numbers of values. late: after the first whose output's size depends on the data.
    spent: the values that nobody needs afterwards.
    """

    function: Function
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    late: bool = False
    spent: tuple[int, ...] = ()


class Program:
    """Runs a graph: its inputs in their order to its outputs. Holds no state, so that any thread may call it."""

    def __init__(
        self, steps: Sequence[Step], constants: Mapping[int, Tensor], inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        self._steps = _with_endings(steps, {*outputs, *constants})
        self._constants = dict(constants)
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = {**self._constants, **dict(zip(self._inputs, inputs, strict=True))}
        for step in self._steps:
            given = step.function(*[values[n] for n in step.inputs])
            if isinstance(given, Tensor):
                values[step.outputs[0]] = given
            else:
                values.update(zip(step.outputs, given, strict=False))
            for n in step.spent:
                values.pop(n, None)  # an output that nobody reads may not have been computed
        return tuple(values[n] for n in self._outputs)

    def halves(self) -> tuple[Program, Program | None]:
        """What has fixed shapes, and what comes after it: its inputs are the first's outputs. None for nothing."""
        early = [step for step in self._steps if not step.late]
        late = [step for step in self._steps if step.late]
        if not late:
            return self, None
        made = {n for step in early for n in step.outputs} | set(self._inputs)
        wanted = {n for step in late for n in step.inputs} | set(self._outputs)
        handed = sorted(made & wanted)
        return (
            Program(early, self._constants, self._inputs, handed),
            Program(late, self._constants, handed, self._outputs),
        )


def _with_endings(steps: Sequence[Step], needed: set[int]) -> tuple[Step, ...]:
    """The steps, each with the values that end with it. needed: the values that never do."""
    ended = []
    seen = set(needed)
    for step in reversed(steps):
        spent = tuple({*step.inputs, *step.outputs} - seen)
        seen.update(step.inputs)
        ended.append(replace(step, spent=spent))
    return tuple(reversed(ended))


class Constants:
    """The constants of a graph on a device, each once, however many programs use it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def keep(self, tensor: Tensor, *, weights: bool) -> Tensor:
        """The same numbers on the device; weights of convolutions the channels last, as its matrix units want them."""
        tensor = tensor.contiguous()
        digest = hashlib.blake2b(tensor.reshape(-1).view(torch.uint8).numpy().data).digest()
        key = (digest, tensor.dtype, tuple(tensor.shape), weights)
        if key not in self._kept:
            layout = torch.channels_last if weights and tensor.dim() == 4 else torch.contiguous_format
            self._kept[key] = tensor.to(self._device, memory_format=layout)
        return self._kept[key]


def lower(model: ov.Model, half: torch.dtype | None, constants: Constants) -> Program:
    """The program of `model`, whose shapes should be fixed: what follows from them alone is computed here.

    half: float16 or bfloat16 for the layers between the first and the last convolution, see `in_half`.
    Raises ValueError, naming it, for an operator that torch has no function for.
    """
    return _Lowering(model, half, constants).program()


class _Lowering:
    def __init__(self, model: ov.Model, half: torch.dtype | None, constants: Constants) -> None:
        self._model = model
        self._ops = model.get_ordered_ops()
        self._half = half
        self._rounded = in_half(self._ops) if half is not None else frozenset()
        self._constants = constants
        self._numbers: dict[_Place, int] = {}
        self._known: dict[int, Tensor] = {}
        self._halves: dict[int, int] = {}  # a value in full precision to the same in half, and back
        self._in_half: set[int] = set()
        self._weights: set[int] = set()
        self._late: set[int] = set()
        self._steps: list[Step] = []
        self._count = 0

    def program(self) -> Program:
        for op in self._ops:
            self._read(op)
        inputs = [self._numbers[port.get_node().get_name(), 0] for port in self._model.inputs]
        outputs = [self._full(self._source(port.get_node().input_value(0))) for port in self._model.outputs]
        used = {n for step in self._steps for n in step.inputs} | set(outputs)
        kept = {
            n: self._constants.keep(tensor, weights=n in self._weights)
            for n, tensor in self._known.items()
            if n in used
        }
        return Program(self._steps, kept, inputs, outputs)

    def _read(self, op: ov.GraphNode) -> None:
        kind = op.get_type_name()
        if kind in ("Parameter", "Result"):
            if kind == "Parameter":
                self._numbers[op.get_name(), 0] = self._new()
            return
        if kind == "Constant":
            self._learn(op, (_constant(op),))
            return
        if kind == "ShapeOf" and op.input(0).get_partial_shape().is_static:
            shape = list(op.input(0).get_partial_shape().to_shape())
            self._learn(op, (torch.tensor(shape, dtype=dtype_of(op.get_output_element_type(0).get_type_name())),))
            return
        inputs = [self._source(op.input_value(n)) for n in range(op.get_input_size())]
        self._add(op, kind, inputs)

    def _add(self, op: ov.GraphNode, kind: str, inputs: list[int]) -> None:
        attributes = dict(op.get_attributes())
        if kind.startswith("Group"):
            kind, inputs[1] = kind.removeprefix("Group"), self._ungrouped(inputs[1], attributes)
        if kind not in OPERATORS:
            raise ValueError(f"the torch runtime has no operator {kind} ({op.get_friendly_name()}); use openvino")
        known = tuple(self._known.get(n) for n in inputs)
        opset = int(op.get_type_info().version_id.removeprefix("opset"))
        function = OPERATORS[kind](GraphNode(kind, attributes, known, opset))
        if all(value is not None for value in known):
            given = function(*known)
            self._learn(op, given if isinstance(given, tuple) else (given,))
            return
        if "Convolution" in kind:
            self._weights.add(inputs[1])
        rounded = op.get_name() in self._rounded
        inputs = [self._rounded_to_half(n) if rounded else self._full(n) for n in inputs]
        outputs = tuple(self._new() for _ in range(op.get_output_size()))
        for index, number in enumerate(outputs):
            self._numbers[op.get_name(), index] = number
            if rounded and op.get_output_element_type(index) == ov.Type.f32:
                self._in_half.add(number)
        fixed = all(op.get_output_partial_shape(index).is_static for index in range(len(outputs)))
        self._append(function, inputs, outputs, late=not fixed)

    def _append(self, function: Function, inputs: Sequence[int], outputs: Sequence[int], *, late: bool = False) -> None:
        late = late or not self._late.isdisjoint(inputs)
        if late:
            self._late.update(outputs)
        self._steps.append(Step(function, tuple(inputs), tuple(outputs), late))

    def _ungrouped(self, weights: int, attributes: dict[str, Any]) -> int:
        """Weights of (groups, out, in, ...) become (groups * out, in, ...), as torch has them."""
        known = self._known.get(weights)
        if known is None:
            raise ValueError("the torch runtime wants the weights of convolutions as constants; use openvino")
        attributes["groups"] = len(known)
        number = self._new()
        self._known[number] = known.flatten(0, 1)
        return number

    def _rounded_to_half(self, number: int) -> int:
        known = self._known.get(number)
        if number in self._in_half or (known is not None and known.dtype != torch.float32):
            return number
        return self._cast(number, self._half)

    def _full(self, number: int) -> int:
        return self._cast(number, torch.float32) if number in self._in_half else number

    def _cast(self, number: int, dtype: torch.dtype | None) -> int:
        assert dtype is not None  # noqa: S101
        if number not in self._halves:
            new = self._halves[number] = self._new()
            if number in self._known:
                self._known[new] = self._known[number].to(dtype)
                if number in self._weights:
                    self._weights.add(new)
            else:
                self._append(_to(dtype), (number,), (new,))
        return self._halves[number]

    def _learn(self, op: ov.GraphNode, values: Sequence[Tensor]) -> None:
        for index, value in enumerate(values):
            number = self._numbers[op.get_name(), index] = self._new()
            self._known[number] = value

    def _source(self, port: ov.Output) -> int:
        return self._numbers[port.get_node().get_name(), port.get_index()]

    def _new(self) -> int:
        self._count += 1
        return self._count


def _to(dtype: torch.dtype) -> Function:
    return lambda x: x.to(dtype)


def _constant(op: ov.GraphNode) -> Tensor:
    kind = op.get_output_element_type(0)
    dtype = dtype_of(kind.get_type_name())
    data = op.get_data(dtype=np.float32) if kind == ov.Type.bf16 else op.get_data()
    return torch.from_numpy(np.array(data)).to(dtype)
