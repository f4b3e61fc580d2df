"""Frees the batch of graphs that were exported for one image and hold this in the targets of reshapes."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.passes import ConstantFolding, Manager


def free_batch(model: ov.Model) -> None:
    """Make reshapes of one item to one item, in a model that was read for a batch of 1, keep any batch.

    A target of (1, 80, -1) becomes (0, 80, -1), where 0 stands for the length of the input's first side. The caller has
    to check that items stay independent: not every first side is a batch.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Reshape" and _is_of_one_item(node):
            target = _constant_target(node)
            if target is not None and len(target) > 1 and target[0] == 1 and 0 not in target:
                node.input(1).replace_source_output(op.constant(np.array([0, *target[1:]], np.int64)).output(0))
                node.set_attribute("special_zero", True)


def _is_of_one_item(reshape: ov.Node) -> bool:
    shape = reshape.input_value(0).get_partial_shape()
    return bool(shape.rank.is_static and shape.rank.get_length() > 1 and shape[0] == ov.Dimension(1))


def _constant_target(reshape: ov.Node) -> list[int] | None:
    """The target of a reshape, computed if it only depends on constants; None if it does not."""
    source = reshape.input_value(1).get_node()
    if not isinstance(source, ov.op.Constant):
        if not _depends_on_constants(source):
            return None
        passes = Manager()
        passes.register_pass(ConstantFolding())
        passes.run_passes(ov.Model([reshape.input_value(1)], [], "target"))  # replaces it in the whole graph
        source = reshape.input_value(1).get_node()
    return source.data.tolist() if isinstance(source, ov.op.Constant) else None


def _depends_on_constants(node: ov.Node) -> bool:
    waiting, seen = [node], set[str]()
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "Parameter":
            return False
        if node.get_name() not in seen:
            seen.add(node.get_name())
            waiting += [port.get_node() for port in node.input_values()]
    return True
