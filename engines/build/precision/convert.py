"""From an ONNX graph in fp32 to one in another precision, which is then a property of the graph.

TensorRT 11 and OpenVINO compute in the types that a graph names. AutoCast (nvidia-modelopt) does the same for fp16 and
bf16, but asks for an older onnx, for onnxruntime-gpu and for cupy, which cannot be installed beside what this project
needs; so it is done here, by the same rules, with what is here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import onnx

from engines.build.precision import int8_graph as quantising
from engines.build.precision.graphs import PrecisionError, read_prepared, save_whole
from engines.build.precision.half import OPSETS, lower
from engines.build.precision.int8_graph import quantise
from engines.build.precision.ranges import largest_values
from engines.inputs import Arrays
from engines.plans.lookup import Precision

__all__ = ["PRECISIONS", "Conversion", "Precision", "PrecisionError", "convert"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class Conversion:
    """A graph in another precision.

    nodes: how many there are besides casts. kept: why those that compute in fp32 do, by node.
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
    """Write the fp32 ONNX graph at `graph` to `out` in `precision`; its inputs and outputs stay as they are.

    calibration: real inputs of the graph, each a batch of any size, on which the values inside are measured: for fp16
    what comes near its largest value then stays in fp32; int8 takes its scales from them and cannot do without.
    symmetric: int8 around 0, as TensorRT wants it, instead of uint8 between the values measured, which loses less.
    The file appears whole, with types that fit together, or not at all. Raises PrecisionError.
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
