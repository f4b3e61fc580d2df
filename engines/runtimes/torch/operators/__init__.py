"""The operators of graphs in torch, by OpenVINO name: its reader turns ONNX, IR and TFLite into these operators."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engines.runtimes.torch.operators.arithmetic import ARITHMETIC
from engines.runtimes.torch.operators.node import DTYPES, Factory, Function, GraphNode, dtype_of
from engines.runtimes.torch.operators.reduction import REDUCTION
from engines.runtimes.torch.operators.resizing import RESIZING
from engines.runtimes.torch.operators.selection import SELECTION
from engines.runtimes.torch.operators.shapes import SHAPES
from engines.runtimes.torch.operators.suppression import SUPPRESSION
from engines.runtimes.torch.operators.windows import WINDOWS

__all__ = ["DTYPES", "OPERATORS", "Function", "GraphNode", "dtype_of"]

OPERATORS: Mapping[str, Factory] = MappingProxyType(
    {**ARITHMETIC, **REDUCTION, **RESIZING, **SELECTION, **SHAPES, **SUPPRESSION, **WINDOWS}
)
