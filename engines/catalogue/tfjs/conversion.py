"""Converts a tfjs GraphModel to a frozen TensorFlow GraphDef, which OpenVINO reads.

The graph can be cut: at an input, which drops what comes before it (the graph's own normalisation), and at outputs,
which drops what comes after them (an ending for one image at a time). It can be given another size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field

from engines.catalogue.tfjs.graph_def import (
    TYPES,
    attribute,
    data_type,
    graph_def,
    node_def,
    shape_attribute,
    tensor_attribute,
    text,
    type_attribute,
)
from engines.catalogue.tfjs.graph_model import ConversionError, Node, Weight, read_graph_model, source_of

_CONSTANTS = {
    ("float32", TYPES["DT_FLOAT"]): "<f4",
    ("int32", TYPES["DT_INT32"]): "<i4",
    ("int32", TYPES["DT_UINT8"]): "u1",
    ("int32", TYPES["DT_INT64"]): "<i8",
    ("bool", TYPES["DT_BOOL"]): "?",
}
"""numpy's name of a constant's type, by tfjs's type of the weight and the graph's of the constant."""
_FUSED = {
    "_FusedConv2D": ("Conv2D", ("T", "strides", "padding", "explicit_paddings", "data_format", "dilations")),
    "FusedDepthwiseConv2dNative": ("DepthwiseConv2dNative", ("T", "strides", "padding", "data_format", "dilations")),
    "_FusedMatMul": ("MatMul", ("T", "transpose_a", "transpose_b")),
}
"""The operators that tfjs fuses others into: what they are without these, and the attributes that they keep."""
_UNSUPPORTED = (
    *("Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "If", "While", "StatelessIf", "StatelessWhile"),
    *("PartitionedCall", "StatefulPartitionedCall", "Prelu"),
)
"""Control flow, functions, and what only tfjs has."""


def _shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not shape or any(side == 0 or side < -1 for side in shape):
        raise ValueError("its sides must be whole numbers from 1 on, or -1 for any")
    return shape


def _frozen(names: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The part of a tfjs graph to convert: the table `convert` of a catalogue entry.

    input: the node that becomes the only input; None for the graph's own inputs. shape: its shape, the batch first, -1
    for any. outputs: the nodes to keep, with all that they need, by their new names; if empty, all that nothing reads.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Literal["tfjs"] = "tfjs"
    input: str | None = None
    shape: Annotated[tuple[Annotated[int, Field(strict=True)], ...], AfterValidator(_shape)] | None = None
    outputs: Annotated[Mapping[str, str], AfterValidator(_frozen)] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )

    def __post_init__(self) -> None:
        if (self.input is None) != (self.shape is None):
            raise ValueError("input: needs a shape, and a shape needs an input")
        if len(set(self.outputs.values())) < len(self.outputs):
            raise ValueError("outputs: two of them are the same node")


def convert(topology: Path, cut: Cut | None = None) -> bytes:
    """The GraphDef of the tfjs model whose model.json is at `topology`; its files of weights are beside it.

    cut: the part to convert, by default the whole graph. Its input may have another size than the graph's, which is
    also changed in resizes to constant sizes.
    Raises ConversionError for files that are no tfjs GraphModel, nodes that do not exist, and what is not supported:
    control flow, functions, and some fused operators. Raises OSError if a file cannot be read.
    """
    cut = cut or Cut()
    nodes, weights = read_graph_model(topology)
    needed = _needed(nodes, cut)
    weights |= _resized(needed, weights, cut)
    names = {old: new for new, old in cut.outputs.items()}
    if taken := [node.name for node in needed if node.name in cut.outputs and node.name not in names]:
        raise ConversionError(f"outputs: {', '.join(taken)} is the name of another node")
    written: list[bytes] = []
    for node in needed:
        shape = cut.shape if node.name == cut.input else None
        with _explained(node):
            written += _written(_renamed(node, names), weights.get(node.name), shape)
    return graph_def(written)


@contextmanager
def _explained(node: Node) -> Iterator[None]:
    """Raise what a malformed node raises as ConversionError."""
    try:
        yield
    except (KeyError, IndexError) as error:
        raise ConversionError(f"node {node.name} ({node.op}): {error} is missing") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConversionError(f"node {node.name} ({node.op}): {error}") from error


def _needed(nodes: Mapping[str, Node], cut: Cut) -> list[Node]:
    """The nodes that the outputs are computed from, in the graph's order, with the inputs."""
    read = {source for node in nodes.values() for source in node.sources}
    waiting = list(cut.outputs.values()) or [name for name in nodes if name not in read]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            if name not in nodes:
                raise ConversionError(f"the graph has no node {name}")
            found.add(name)
            waiting += () if name == cut.input else nodes[name].sources
    if cut.input is not None:
        if cut.input not in found:
            raise ConversionError(f"the outputs do not depend on the input {cut.input}")
        others = [name for name in found if nodes[name].op == "Placeholder" and name != cut.input]
        if others:
            raise ConversionError(f"the outputs also depend on {', '.join(others)}, not on {cut.input} alone")
    return [node for node in nodes.values() if node.name in found]


def _resized(nodes: Sequence[Node], weights: Mapping[str, Weight], cut: Cut) -> dict[str, Weight]:
    """The constant targets of resizes, for the size of the cut's input instead of the one that the graph declares."""
    old, new, changed = _declared_size(nodes, cut.input), _size(cut.shape or ()), dict[str, Weight]()
    for node in nodes if old and new else ():
        if node.op in ("ResizeBilinear", "ResizeNearestNeighbor"):
            with _explained(node):
                target = weights.get(node.sources[1])
                if target is not None:
                    size, rest = np.divmod(target.array * new, old)
                    if rest.any():
                        raise ValueError(f"the graph cannot have the size {new[0]} x {new[1]}, see `shape`")
                    changed[node.sources[1]] = Weight(target.dtype, size)
    return changed


def _declared_size(nodes: Sequence[Node], name: str | None) -> Sequence[int]:
    """The height and width of a placeholder; empty if they are unknown, and for other nodes."""
    for node in nodes:
        if node.name == name and node.op == "Placeholder":
            with _explained(node):
                sides = node.attr.get("shape", {}).get("shape", {}).get("dim", ())
                return _size([int(side.get("size", -1)) for side in sides])
    return ()


def _size(shape: Sequence[int]) -> Sequence[int]:
    """The height and width of an image input, channels first or last; empty if they are unknown."""
    if len(shape) != 4:
        return ()
    size = shape[2:] if shape[1] < shape[3] else shape[1:3]
    return size if min(size) > 0 else ()


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with the new names of nodes, and without control inputs."""
    inputs = (
        names.get(source_of(value), source_of(value)) + value[len(source_of(value)) :]
        for value in node.input
        if not value.startswith("^")
    )
    return replace(node, name=names.get(node.name, node.name), input=tuple(inputs))


def _written(node: Node, weight: Weight | None, cut_to: Sequence[int] | None) -> Iterator[bytes]:
    """The entries of a GraphDef for a node. weight: of a constant. cut_to: its shape if it becomes the input.

    Raises KeyError, TypeError, ValueError, AttributeError or OverflowError if the node is malformed.
    """
    if cut_to is not None:
        kind = data_type(node.attr["dtype"]["type"]) if node.op == "Placeholder" else TYPES["DT_FLOAT"]
        yield node_def(node.name, "Placeholder", [], {"dtype": type_attribute(kind), "shape": shape_attribute(cut_to)})
    elif node.op == "Const":
        kind = data_type(node.attr["dtype"]["type"])
        if weight is None:
            raise ValueError("the manifest has no weight for it")
        if (weight.dtype, kind) not in _CONSTANTS:
            raise ValueError(f"it is {weight.dtype} in the manifest, and of another type in the graph")
        value = tensor_attribute(weight.array.astype(_CONSTANTS[weight.dtype, kind]), kind)
        yield node_def(node.name, "Const", [], {"dtype": type_attribute(kind), "value": value})
    elif node.op in _FUSED:
        yield from _unfused(node)
    elif node.op in _UNSUPPORTED:
        raise ValueError("it is not supported")
    else:
        yield node_def(
            node.name, node.op, node.input, {key: attribute(value) for key, value in node.attr.items() if value}
        )


def _unfused(node: Node) -> Iterator[bytes]:
    """An operator with those that tfjs has fused into it, as separate nodes; the last one keeps the name."""
    op, kept = _FUSED[node.op]
    own = {key: attribute(node.attr[key]) for key in kept if key in node.attr}
    steps = [text(step).decode() for step in node.attr["fused_ops"]["list"]["s"]]
    names = [*(f"{node.name}/unfused_{n}" for n in range(len(steps))), node.name]
    yield node_def(names[0], op, node.input[:2], own)
    more = iter(node.input[2:])
    for step, before, after in zip(steps, names[:-1], names[1:], strict=True):
        inputs, attributes = [before], {"T": own["T"]}
        if step == "BiasAdd":
            inputs.append(next(more, ""))
            attributes |= {"data_format": own["data_format"]} if "data_format" in own else {}
        elif step == "LeakyRelu":
            attributes |= {"alpha": attribute(node.attr["leakyrelu_alpha"])}
        elif step not in ("Relu", "Relu6", "Elu", "Sigmoid", "Tanh"):
            raise ValueError(f"{step}, which is fused into it, is not supported")
        yield node_def(after, step, inputs, attributes)
