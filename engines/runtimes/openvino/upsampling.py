"""Pointwise convolutions before the upsampling that feeds them, where they have a fraction of the pixels to compute.

Enlarging makes each pixel a weighted mean of pixels, and a 1x1 convolution treats every pixel alike, so that the two
give the same in either order. Graphs come as they were trained: BlazePose's detector enlarges 1152 channels to make
192 of them, which costs four times as many products as it takes.
"""

from __future__ import annotations

import openvino as ov

_MEANS = ("nearest", "linear", "linear_onnx")
"""How an Interpolate makes each pixel a mean of some, with weights that add up to 1."""


def convolve_before_upsampling(model: ov.Model) -> None:
    """Swap the two in `model` wherever nothing else sees what lies between them."""
    for convolution in model.get_ordered_ops():
        if _is_pointwise(convolution) and (chain := _enlarging(convolution)):
            readers = convolution.output(0).get_target_inputs()
            convolution.input(0).replace_source_output(chain[0].input_value(0))
            chain[0].input(0).replace_source_output(convolution.output(0))
            for reader in readers:
                reader.replace_source_output(chain[-1].output(0))
    model.validate_nodes_and_infer_types()


def _is_pointwise(node: ov.Node) -> bool:
    """Whether it is a 1x1 convolution, of which the graph gives out no more than what others make of it."""
    if node.get_type_name() != "Convolution" or "Result" in _readers(node):
        return False
    attributes = node.get_attributes()
    return (
        list(node.input_value(1).shape[2:]) == [1, 1]
        and attributes["strides"] == [1, 1]
        and not any([*attributes["pads_begin"], *attributes["pads_end"]])
    )


def _enlarging(convolution: ov.Node) -> list[ov.Node]:
    """What enlarges its input and nothing else, in the order of the data: an Interpolate, or one between two Transposes
    (graphs of TFLite, which keep channels last). Empty where there is none.
    """
    chain = [convolution.input_value(0).get_node()]
    axes = [2, 3]
    if chain[0].get_type_name() == "Transpose":
        for _ in range(2):
            chain.insert(0, chain[0].input_value(0).get_node())
        if [_constant(node.input_value(1)) for node in chain[::2]] != [[0, 2, 3, 1], [0, 3, 1, 2]]:
            return []
        axes = [1, 2]
    alone = all(len(_readers(node)) == 1 for node in chain)
    return chain if alone and _enlarges(chain[len(chain) // 2], axes) else []


def _enlarges(node: ov.Node, axes: list[int]) -> bool:
    """Whether it is an Interpolate that makes something larger along `axes` alone, by means."""
    if node.get_type_name() != "Interpolate" or _constant(node.input_values()[-1]) != axes:
        return False
    attributes = node.get_attributes()
    shapes = [port.get_partial_shape() for port in (node.input_value(0), node.output(0))]
    sides = [[shape[axis] for shape in shapes] for axis in axes]
    return (
        attributes["mode"] in _MEANS
        and not any([*attributes["pads_begin"], *attributes["pads_end"]])
        and all(side.is_static for pair in sides for side in pair)
        and all(before.get_length() < after.get_length() for before, after in sides)
    )


def _constant(port: ov.Output) -> list[int] | None:
    """The numbers of a constant, None for anything else."""
    node = port.get_node()
    return node.data.tolist() if isinstance(node, ov.op.Constant) else None


def _readers(node: ov.Node) -> list[str]:
    return [port.get_node().get_type_name() for port in node.output(0).get_target_inputs()]
