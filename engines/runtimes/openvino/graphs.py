"""Reads ONNX, OpenVINO IR and TFLite files into one form, with what a runtime folds into them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from openvino.preprocess import ColorFormat, PrePostProcessor

from engines.runtimes.base import PixelInput, TensorSpec
from engines.runtimes.openvino.upsampling import convolve_before_upsampling

# The binding fills its tables of numpy types at their first use, behind a C++ guard that it takes while it holds the
# interpreter's lock and keeps while it lets go of it: two threads that come first together wait for each other forever,
# and all others for the lock (2026.4.1, networks being opened side by side). So they are filled here, under the import
# lock, as every runtime reads its graph with this module.
ov.Tensor(np.zeros(1, ov.Type.f32.to_dtype()))


def read_graph(
    core: ov.Core, path: Path, pixels: PixelInput | None, outputs: Sequence[str] | None, batch: int
) -> ov.Model:
    """The graph as it is compiled: with the outputs asked for, with its preprocessing, for this batch (-1: any).

    Raises ValueError for outputs that the graph does not have.
    """
    model = core.read_model(path)
    if outputs is not None:
        _keep_outputs(model, outputs)
    if pixels is not None:
        model = _fold_pixels(model, pixels)
    shapes = {}
    for port in model.inputs:
        shape = port.partial_shape
        shape[0] = ov.Dimension(batch)
        shapes[port] = shape
    model.reshape(shapes)
    convolve_before_upsampling(model)
    return model


def gives_an_output_per_item(model: ov.Model) -> bool:
    """Whether the shapes of a graph with a batch of two let it batch: finds most that cannot, without compiling."""
    firsts = [port.partial_shape[0] for port in model.outputs if port.partial_shape.rank.get_length() > 0]
    return len(firsts) == len(model.outputs) and all(first.is_dynamic or first.get_length() == 2 for first in firsts)


def is_quantised(model: ov.Model) -> bool:
    """Whether the graph has Q/DQ nodes."""
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def describe(port: ov.Output | ov.ConstOutput) -> TensorSpec:
    """An input or output of a graph whose batch is free."""
    shape = tuple(d.get_length() if d.is_static else -1 for d in list(port.partial_shape)[1:])
    return TensorSpec(port.get_any_name(), shape, port.element_type.to_dtype())


def _keep_outputs(model: ov.Model, outputs: Sequence[str]) -> None:
    named = {port.get_any_name(): port for port in model.outputs}
    if missing := [name for name in outputs if name not in named]:
        raise ValueError(f"the graph has no output {', '.join(missing)}; it has {', '.join(named)}")
    for name, port in named.items():
        if name not in outputs:
            model.remove_result(port.get_node())


def _fold_pixels(model: ov.Model, pixels: PixelInput) -> ov.Model:
    """Make the graph take (n, height, width, 3) uint8 RGB and normalise by itself."""
    shape = model.input(0).partial_shape
    channels_first = shape.rank.get_length() == 4 and shape[1].is_static and shape[1].get_length() == 3
    steps = PrePostProcessor(model)
    port = steps.input(0)
    port.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.RGB)
    port.model().set_layout(ov.Layout("NCHW" if channels_first else "NHWC"))
    to_float = port.preprocess().convert_element_type(ov.Type.f32)
    if pixels.order == "bgr":
        to_float.convert_color(ColorFormat.BGR)
    to_float.mean(list(pixels.mean)).scale(list(pixels.std))
    folded = steps.build()
    batch = folded.input(0).partial_shape[0]
    folded.reshape({folded.input(0): ov.PartialShape([batch, pixels.height, pixels.width, 3])})
    return folded
