"""Prepares graphs that OpenVINO has read (ONNX, its own IR, TFLite, a frozen TensorFlow GraphDef) for compiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.preprocess import ColorFormat, PrePostProcessor

from engines.inputs import PixelInput, TensorSpec
from engines.runtimes.openvino.batches import free_batch
from engines.runtimes.openvino.upsampling import convolve_before_upsampling

# At first use the binding fills its tables of numpy types. A C++ guard protects them, which it acquires while it holds
# the GIL and keeps while it releases the GIL. Two threads that first use the binding at once deadlock, and block all
# others (2026.4.1, networks being opened in parallel). So the tables are filled here, under the import lock: every
# runtime prepares its graph with this module.
ov.Tensor(np.zeros(1, ov.Type.f32.to_dtype()))


def prepare_graph(original: ov.Model, pixels: PixelInput | None, outputs: Sequence[str] | None, batch: int) -> ov.Model:
    """Return a copy of a graph for compiling, with the same weights. A copy takes far less time than reading its file.

    pixels: preprocessing to fold in. outputs: keep only these, which may also be values inside the graph. batch: the
    batch size, -1 for any. Raises ValueError for outputs that the graph does not have, RuntimeError for a batch or size
    that the graph cannot have.
    """
    model = original.clone()
    if outputs is not None:
        _keep_outputs(model, outputs)
    name_ports(model)
    if pixels is not None:
        model = _fold_pixels(model, pixels)
    _set_batch(model, 1)
    if batch != 1:
        free_batch(model)
        _set_batch(model, batch)
    convolve_before_upsampling(model)
    return model


def takes_batch(original: ov.Model, pixels: PixelInput | None, outputs: Sequence[str] | None, batch: int) -> bool:
    """False if the shapes of the graph show that it cannot have this batch size, which saves compiling it."""
    try:
        model = prepare_graph(original, pixels, outputs, batch)
    except RuntimeError:  # a graph for one item, such as one that squeezes the batch away
        return False
    firsts = [port.partial_shape[0] for port in model.outputs if port.partial_shape.rank.get_length() > 0]
    return len(firsts) == len(model.outputs) and all(
        first.is_dynamic or first.get_length() == batch for first in firsts
    )


def is_quantised(model: ov.Model) -> bool:
    """True if the graph has Q/DQ nodes."""
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())


def describe(port: ov.Output | ov.ConstOutput) -> TensorSpec:
    """Describe an input or output, leaving out its batch dimension."""
    shape = tuple(d.get_length() if d.is_static else -1 for d in list(port.partial_shape)[1:])
    return TensorSpec(port.get_any_name(), shape, port.element_type.to_dtype())


def _keep_outputs(model: ov.Model, outputs: Sequence[str]) -> None:
    """Make `outputs` the graph's only ones. Any value inside the graph may be one."""
    ports = {name: port for port in model.outputs for name in _names(port)}
    if not ports.keys() >= set(outputs):
        inner = {name: value for node in model.get_ordered_ops() for value in node.outputs() for name in _names(value)}
        if missing := [name for name in outputs if name not in ports and name not in inner]:
            raise ValueError(f"the graph has no output {', '.join(missing)}; it has {', '.join(ports)}")
        ports = {name: ports[name] if name in ports else model.add_outputs([inner[name]])[0] for name in outputs}
    kept = {name: ports[name] for name in outputs}
    for port in model.outputs:
        if port not in kept.values():
            model.remove_result(port.get_node())
    for name, port in kept.items():
        port.get_tensor().set_names({name})


def name_ports(model: ov.Model) -> None:
    """Leave each input and output the shortest of its names, without TensorFlow's ":0"."""
    for port in (*model.inputs, *model.outputs):
        if names := _names(port):
            port.get_tensor().set_names({min(names, key=lambda name: (len(name), name))})


def _names(value: ov.Output) -> set[str]:
    return {name.removesuffix(":0") for name in value.get_names()}


def _set_batch(model: ov.Model, batch: int) -> None:
    shapes = {}
    for port in model.inputs:
        shape = port.partial_shape
        if shape[0] != ov.Dimension(batch):
            shape[0] = ov.Dimension(batch)
            shapes[port] = shape
    if shapes:
        model.reshape(shapes)


def _fold_pixels(model: ov.Model, pixels: PixelInput) -> ov.Model:
    """Make the graph take (n, height, width, 3) uint8 RGB and normalise it."""
    _fix_sizes(model, pixels)
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


def _fix_sizes(model: ov.Model, pixels: PixelInput) -> None:
    """Make constants of inputs (n, 2) beside the image: DETR's kind of graph scales its results to such a size.

    Their value is the width and height of the input, so that results are in input pixels.
    """
    for port in model.inputs[1:]:
        shape = port.partial_shape
        if shape.rank.is_static and shape.rank.get_length() == 2 and shape[1] == ov.Dimension(2):
            size = np.array([[pixels.width, pixels.height]], port.element_type.to_dtype())
            parameter = port.get_node()
            for reader in port.get_target_inputs():
                reader.replace_source_output(op.constant(size).output(0))
            model.remove_parameter(parameter)
