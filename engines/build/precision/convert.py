"""Converts ONNX graphs in fp32 to another precision, which is then a property of the graph.

TensorRT 11 and OpenVINO compute in the types that a graph declares. AutoCast (nvidia-modelopt) does the same for fp16
and bf16 but requires an older onnx, onnxruntime-gpu and cupy, which cannot be installed beside this project's
dependencies. This package follows the same rules.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import onnx

from engines.build.onnx.graphs import PrecisionError, read_prepared, save_whole
from engines.build.precision import int8_graph as quantising
from engines.build.precision.half import OPSETS, lower
from engines.build.precision.int8_graph import quantise
from engines.build.precision.ranges import largest_values
from engines.inputs import Arrays
from engines.plans.find import Precision

__all__ = ["PRECISIONS", "Conversion", "Precision", "PrecisionError", "convert"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted graph.

    nodes: the number of nodes without casts. kept: by the name of each node that stays in fp32, the reason.
    """

    path: Path
    precision: Precision
    nodes: int
    kept: Mapping[str, str]


def convert(
    graph: Path,
    out: Path,
    precision: Precision,
    *,
    calibration: Sequence[Arrays] | None = None,
    symmetric: bool = False,
) -> Conversion:
    """Convert the fp32 ONNX graph at `graph` to `precision` and write it to `out`. Its inputs and outputs stay fp32.

    calibration: real inputs of the graph, batches of any size, on which the values inside it are measured. With them,
    fp16 keeps values near its largest value in fp32; int8 takes its scales from them and requires them.
    symmetric: int8 around 0, which TensorRT requires, instead of uint8 between the measured values, which loses less.
    The file is written atomically, after its types have been checked. Raises PrecisionError.
    """
    if precision not in PRECISIONS:
        raise PrecisionError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    with tempfile.TemporaryDirectory(prefix="posewire-precision-") as folder:
        if precision == "fp32":
            model, kept = read_prepared(graph, OPSETS["fp16"]), {}
        elif precision == "int8":
            model = read_prepared(graph, quantising.OPSET)
            kept = quantise(model, calibration or (), symmetric=symmetric)
        else:
            model = read_prepared(graph, OPSETS[precision])
            prepared = Path(folder) / "prepared.onnx"
            onnx.save(model, prepared)
            kept = lower(model, precision, largest_values(prepared, calibration) if calibration else {})
        save_whole(model, out)
    count = sum(node.op_type != "Cast" for node in model.graph.node)
    return Conversion(out, precision, count, kept)
