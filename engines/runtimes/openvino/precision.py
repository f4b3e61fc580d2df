"""Which layers of a graph may compute in 16 bits."""

from __future__ import annotations

from collections.abc import Sequence

import openvino as ov

_MATRICES = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
"""Where the work is, and what the matrix units of a GPU do in 16 bits."""
_CHOICES = ("NonMaxSuppression", "TopK", "NonZero")
"""After these a graph has found people and computes with their coordinates."""
_EXACT = ("Convert", "ConvertLike", "FakeQuantize", "CumSum", "Sin", "Cos")
"""What 16 bits would spoil wherever it stands, or what says its type itself."""


def in_half(ops: Sequence[ov.Node]) -> frozenset[str]:
    """The names of the nodes between the first and the last convolution or product of matrices, those included.

    ops: all nodes, each after those it reads from. What comes before (normalising pixels) and behind (reading boxes off
    a grid, suppressing the lesser ones) stays in 32 bits: bf16 would tell apart only every fourth of 640 pixels.
    """
    late: set[str] = set()
    below: set[str] = set()
    for op in ops:
        sources = [op.input_value(n).get_node().get_name() for n in range(op.get_input_size())]
        if op.get_type_name() in _CHOICES or any(name in late for name in sources):
            late.add(op.get_name())
        if _counts(op, late) or any(name in below for name in sources):
            below.add(op.get_name())
    above: set[str] = set()
    for op in reversed(ops):
        if _counts(op, late) or op.get_name() in above:
            above.add(op.get_name())
            above.update(op.input_value(n).get_node().get_name() for n in range(op.get_input_size()))
    return frozenset(
        op.get_name()
        for op in ops
        if op.get_name() in below & above and op.get_name() not in late and op.get_type_name() not in _EXACT
    )


def _counts(op: ov.Node, late: set[str]) -> bool:
    return op.get_type_name() in _MATRICES and op.get_name() not in late
