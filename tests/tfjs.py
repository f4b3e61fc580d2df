"""Small tfjs GraphModels that tests build, in the format that tfjs-converter writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

KERNEL = np.random.default_rng(5).normal(0, 0.4, (1, 1, 3, 4)).astype(np.float32)
BIAS = np.array([0.5, -0.5, 0.0, 1.0], np.float32)
_TYPES = {"f": ("DT_FLOAT", "float32", "<f4"), "i": ("DT_INT32", "int32", "<i4"), "b": ("DT_BOOL", "bool", "?")}
"""The names of a type in graphs, in manifests and in numpy, by its kind."""
FLOAT = {"T": {"type": "DT_FLOAT"}}

Weights = Mapping[str, NDArray[Any]]
Node = dict[str, Any]


def node(name: str, op: str, inputs: Sequence[str] = (), **attributes: Any) -> Node:
    """A node. attributes: AttrValues in their JSON form."""
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def placeholder(name: str, kind: str, *shape: int) -> Node:
    return node(name, "Placeholder", dtype={"type": kind}, shape={"shape": {"dim": [{"size": str(s)} for s in shape]}})


def strings(*values: str) -> dict[str, Any]:
    """The attribute that is a list of strings."""
    return {"list": {"s": [base64.b64encode(value.encode()).decode() for value in values]}}


def constant(name: str, weights: Weights) -> Node:
    """The node of a weight."""
    return node(name, "Const", dtype={"type": _TYPES[weights[name].dtype.kind][0]})


def save_graph_model(
    folder: Path, nodes: Sequence[Node], weights: Weights, packed: Mapping[str, str] | None = None, shards: int = 1
) -> Path:
    """Save a GraphModel to `folder` and return the path of its model.json.

    packed: the types that quantised weights are stored in: float16, uint8 or uint16. shards: the number of files for
    the weights.
    """
    entries, data = [], b""
    for name, array in weights.items():
        _, declared, numpys = _TYPES[array.dtype.kind]
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": declared}
        stored = array.astype(numpys)
        kind = (packed or {}).get(name)
        if kind == "float16":
            entry["quantization"] = {"dtype": kind, "original_dtype": "float32"}
            stored = array.astype("<f2")
        elif kind:
            scale = float(np.ptp(array)) / np.iinfo(kind).max
            entry["quantization"] = {"dtype": kind, "scale": scale, "min": float(array.min())}
            stored = np.rint((array - array.min()) / scale).astype(kind)
        entries.append(entry)
        data += stored.tobytes()
    size = -(-len(data) // shards)
    paths = [f"group1-shard{n + 1}of{shards}.bin" for n in range(shards)]
    for n, path in enumerate(paths):
        (folder / path).write_bytes(data[n * size : (n + 1) * size])
    document = {
        "format": "graph-model",
        "modelTopology": {"node": list(nodes), "library": {}, "versions": {"producer": 808}},
        "weightsManifest": [{"paths": paths, "weights": entries}],
    }
    topology = folder / "model.json"
    topology.write_text(json.dumps(document), "utf-8")
    return topology


def small_graph() -> tuple[list[Node], dict[str, NDArray[Any]]]:
    """A graph with what exports have: its own normalisation, a fused convolution, sizes, and an ending for one image.

    "input", (1, 4, 6, 3) int32, is halved to "half". "heads" are min(max(half @ KERNEL + BIAS, 0), 6), (1, 4, 6, 4);
    "large" has them at twice the size by nearest neighbours; "rows" is these as (1, 96, 4); "Identity" the largest row.
    """
    weights: dict[str, NDArray[Any]] = {
        "scale": np.array(0.5, np.float32),
        "kernel": KERNEL,
        "bias": BIAS,
        "size": np.array([8, 12], np.int32),
        "target": np.array([1, -1, 4], np.int32),
        "axis": np.array(1, np.int32),
    }
    convolution: dict[str, Any] = {
        **FLOAT,
        "strides": {"list": {"i": ["1", "1", "1", "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "padding": {"s": base64.b64encode(b"SAME").decode()},
        "data_format": {"s": base64.b64encode(b"NHWC").decode()},
        "explicit_paddings": {"list": {}},
        "fused_ops": strings("BiasAdd", "Relu6"),
        "epsilon": {"f": 0.0},
        "num_args": {"i": "1"},
    }
    resize = {**FLOAT, "align_corners": {"b": False}, "half_pixel_centers": {"b": True}}
    nodes = [
        placeholder("input", "DT_INT32", 1, 4, 6, 3),
        *(constant(name, weights) for name in weights),
        node("cast", "Cast", ["input"], SrcT={"type": "DT_INT32"}, DstT={"type": "DT_FLOAT"}, Truncate={"b": False}),
        node("half", "Mul", ["cast", "scale"], **FLOAT),
        node("heads", "_FusedConv2D", ["half", "kernel", "bias"], **convolution),
        node("large", "ResizeNearestNeighbor", ["heads", "size"], **resize),
        node("rows", "Reshape", ["large", "target"], **FLOAT, Tshape={"type": "DT_INT32"}),
        node("Identity", "Max", ["rows", "axis"], **FLOAT, Tidx={"type": "DT_INT32"}, keep_dims={"b": False}),
    ]
    return nodes, weights


def small_heads(half: NDArray[Any]) -> NDArray[Any]:
    """What `small_graph` gives at "heads" for "half"."""
    clipped: NDArray[Any] = np.clip(half @ KERNEL[0, 0] + BIAS, 0, 6)
    return clipped
