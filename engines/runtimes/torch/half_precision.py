"""Which nodes of a graph may compute in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

_MATRICES = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
"""The operators with most of the work, which GPU matrix units compute in 16 bits."""
_SELECTIONS = ("NonMaxSuppression", "TopK", "NonZero")
"""After these operators a graph computes with the coordinates of the people found."""
_EXACT = ("Convert", "ConvertLike", "FakeQuantize", "CumSum", "Sin", "Cos")
"""Operators that always need full precision, or that name their type themselves."""


def half_precision_nodes(ops: Sequence[ov.Node]) -> frozenset[str]:
    """The names of all nodes from the first to the last convolution or matrix product.

    ops: all nodes, each after the nodes that it reads. The nodes before (normalising pixels) and after (decoding boxes,
    suppression) stay in 32 bits: near 640, bf16 can only represent every fourth pixel coordinate.
    """
    late: set[str] = set()
    below: set[str] = set()
    for op in ops:
        sources = [op.input_value(n).get_node().get_name() for n in range(op.get_input_size())]
        if op.get_type_name() in _SELECTIONS or any(name in late for name in sources):
            late.add(op.get_name())
        if _is_matrix_op(op, late) or any(name in below for name in sources):
            below.add(op.get_name())
    above: set[str] = set()
    for op in reversed(ops):
        if _is_matrix_op(op, late) or op.get_name() in above:
            above.add(op.get_name())
            above.update(op.input_value(n).get_node().get_name() for n in range(op.get_input_size()))
    return frozenset(
        op.get_name()
        for op in ops
        if op.get_name() in below & above and op.get_name() not in late and op.get_type_name() not in _EXACT
    )


def _is_matrix_op(op: ov.Node, late: set[str]) -> bool:
    return op.get_type_name() in _MATRICES and op.get_name() not in late
