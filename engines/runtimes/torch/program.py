"""A graph compiled to a list of calls of torch functions, for one batch size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
import torch
from torch import Tensor

from engines.runtimes.torch.half_precision import half_precision_nodes
from engines.runtimes.torch.operators import OPERATORS, Function, GraphNode, dtype_of

_ValueKey = tuple[str, int]
"""One value of the graph: the name of the node that computes it, and the index of the output."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call. inputs, outputs: indices of values.

    dynamic: True for steps that need a value whose size depends on the data, and for those that compute one.
    spent: values that no later step needs.
    """

    function: Function
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dynamic: bool = False
    spent: tuple[int, ...] = ()


class Program:
    """Maps the inputs of a graph, in order, to its outputs. Stateless and thread-safe."""

    def __init__(
        self, steps: Sequence[Step], constants: Mapping[int, Tensor], inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        self._steps = _with_spent_values(steps, {*outputs, *constants})
        self._constants = dict(constants)
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = {**self._constants, **dict(zip(self._inputs, inputs, strict=True))}
        for step in self._steps:
            results = step.function(*[values[n] for n in step.inputs])
            if isinstance(results, Tensor):
                values[step.outputs[0]] = results
            else:
                values.update(zip(step.outputs, results, strict=False))
            for n in step.spent:
                values.pop(n, None)  # an unused output may not have been computed
        return tuple(values[n] for n in self._outputs)

    def split_at_dynamic(self) -> tuple[Program, Program | None]:
        """Split into the steps of fixed shapes and the dynamic steps, or None if there are none.

        The outputs of the first program are the inputs of the second.
        """
        fixed = [step for step in self._steps if not step.dynamic]
        dynamic = [step for step in self._steps if step.dynamic]
        if not dynamic:
            return self, None
        computed = {n for step in fixed for n in step.outputs} | set(self._inputs)
        needed = {n for step in dynamic for n in step.inputs} | set(self._outputs)
        shared = sorted(computed & needed)
        return (
            Program(fixed, self._constants, self._inputs, shared),
            Program(dynamic, self._constants, shared, self._outputs),
        )


def _with_spent_values(steps: Sequence[Step], needed: set[int]) -> tuple[Step, ...]:
    """Return the steps with `spent` filled in. needed: values that are never spent."""
    result = []
    seen = set(needed)
    for step in reversed(steps):
        spent = tuple({*step.inputs, *step.outputs} - seen)
        seen.update(step.inputs)
        result.append(replace(step, spent=spent))
    return tuple(reversed(result))


class Constants:
    """The constants of a graph on a device, each stored once for all programs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def keep(self, tensor: Tensor, *, weights: bool) -> Tensor:
        """The tensor on the device. weights: of a convolution; stored channels last, the layout for matrix units."""
        tensor = tensor.contiguous()
        digest = hashlib.blake2b(tensor.reshape(-1).view(torch.uint8).numpy().data).digest()
        key = (digest, tensor.dtype, tuple(tensor.shape), weights)
        if key not in self._kept:
            layout = torch.channels_last if weights and tensor.dim() == 4 else torch.contiguous_format
            self._kept[key] = tensor.to(self._device, memory_format=layout)
        return self._kept[key]


def lower(model: ov.Model, half: torch.dtype | None, constants: Constants) -> Program:
    """Compile `model` to a program. Its shapes should be fixed: values that follow from them are computed here.

    half: float16 or bfloat16 for the layers between the first and the last convolution, see `half_precision_nodes`.
    Raises ValueError, naming the operator, if there is no torch function for it.
    """
    return _Lowering(model, half, constants).program()


class _Lowering:
    def __init__(self, model: ov.Model, half: torch.dtype | None, constants: Constants) -> None:
        self._model = model
        self._ops = model.get_ordered_ops()
        self._half = half
        self._rounded = half_precision_nodes(self._ops) if half is not None else frozenset()
        self._constants = constants
        self._numbers: dict[_ValueKey, int] = {}
        self._known: dict[int, Tensor] = {}
        self._halves: dict[int, int] = {}  # from a value to its copy in the other precision
        self._in_half: set[int] = set()
        self._weights: set[int] = set()
        self._dynamic: set[int] = set()
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
            self._set_known(op, (_constant(op),))
            return
        if kind == "ShapeOf" and op.input(0).get_partial_shape().is_static:
            shape = list(op.input(0).get_partial_shape().to_shape())
            self._set_known(op, (torch.tensor(shape, dtype=dtype_of(op.get_output_element_type(0).get_type_name())),))
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
            values = function(*known)
            self._set_known(op, values if isinstance(values, tuple) else (values,))
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
        self._append(function, inputs, outputs, dynamic=not fixed)

    def _append(
        self, function: Function, inputs: Sequence[int], outputs: Sequence[int], *, dynamic: bool = False
    ) -> None:
        dynamic = dynamic or not self._dynamic.isdisjoint(inputs)
        if dynamic:
            self._dynamic.update(outputs)
        self._steps.append(Step(function, tuple(inputs), tuple(outputs), dynamic))

    def _ungrouped(self, weights: int, attributes: dict[str, Any]) -> int:
        """Reshape weights from (groups, out, in, ...) to torch's (groups * out, in, ...)."""
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

    def _set_known(self, op: ov.GraphNode, values: Sequence[Tensor]) -> None:
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
