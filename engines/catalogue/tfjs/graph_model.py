"""Reads a tfjs GraphModel: model.json, with a GraphDef as JSON and a manifest of weights, and the files of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

_STORED = {"float32": "<f4", "int32": "<i4", "bool": "?", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}


class ConversionError(ValueError):
    """A model cannot be converted. The message says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """An operator. input: "name", "name:output" or, for control, "^name". attr: AttrValues in their JSON form."""

    name: str
    op: str
    input: tuple[str, ...] = ()
    attr: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        """The names of the nodes whose outputs it takes."""
        return [source_of(value) for value in self.input if not value.startswith("^")]


@dataclass(frozen=True, slots=True)
class Weight:
    """The value of a constant. dtype: tfjs's type of it; int32 also stores int64."""

    dtype: str
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Topology:
    node: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class _Quantisation:
    dtype: Literal["float16", "uint8", "uint16"]
    scale: float = 1.0
    min: float = 0.0


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    dtype: Literal["float32", "int32", "bool"]
    quantization: _Quantisation | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    """Weights that follow one another in the bytes of some files."""

    paths: tuple[str, ...]
    weights: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class _GraphModel:
    modelTopology: _Topology  # noqa: N815 - the names of the format
    weightsManifest: tuple[_Group, ...]  # noqa: N815


_MODEL = TypeAdapter(_GraphModel)


def read_graph_model(topology: Path) -> tuple[dict[str, Node], dict[str, Weight]]:
    """The nodes and the weights, by name, of the model whose model.json is at `topology`, with its weights beside it.

    Raises ConversionError if they are not those of a GraphModel, OSError if a file cannot be read.
    """
    try:
        model = _MODEL.validate_json(topology.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(map(str, first["loc"]))
        raise ConversionError(f"{topology.name} is no tfjs GraphModel ({where or 'file'}: {first['msg']})") from error
    nodes = {node.name: node for node in model.modelTopology.node}
    return nodes, {name: weight for group in model.weightsManifest for name, weight in _weights(group, topology)}


def source_of(value: str) -> str:
    """The node of a value "name" or "name:output"."""
    return value.split(":")[0]


def _weights(group: _Group, topology: Path) -> Iterator[tuple[str, Weight]]:
    """The weights of a group; quantised ones are expanded to floats."""
    files = ", ".join(group.paths)
    try:
        data = b"".join((topology.parent / Path(path).name).read_bytes() for path in group.paths)
    except FileNotFoundError as error:
        raise ConversionError(f"{topology.name} needs its weights {files} beside it") from error
    at = 0
    for entry in group.weights:
        packed = entry.quantization
        stored = np.dtype(_STORED[packed.dtype if packed else entry.dtype])
        count = prod(entry.shape)
        if at + count * stored.itemsize > len(data):
            raise ConversionError(f"{files}: ends within the weight {entry.name}")
        array: NDArray[Any] = np.frombuffer(data, stored, count, at).reshape(entry.shape)
        at += count * stored.itemsize
        if packed:
            array = array.astype(np.float32) * np.float32(packed.scale) + np.float32(packed.min)
        yield entry.name, Weight(entry.dtype, array if entry.dtype == "float32" or not packed else np.rint(array))
    if at < len(data):
        raise ConversionError(f"{files}: {len(data) - at} bytes are left over after the last weight")
