"""The operators of graphs in torch, by their OpenVINO names: the reader of ONNX, IR and TFLite speaks of no others."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engines.runtimes.operators.arithmetic import ARITHMETIC
from engines.runtimes.operators.node import DTYPES, Factory, Function, Node, dtype_of
from engines.runtimes.operators.reduction import REDUCTION
from engines.runtimes.operators.resizing import RESIZING
from engines.runtimes.operators.selection import SELECTION
from engines.runtimes.operators.shapes import SHAPES
from engines.runtimes.operators.suppression import SUPPRESSION
from engines.runtimes.operators.windows import WINDOWS

__all__ = ["DTYPES", "OPERATORS", "Function", "Node", "dtype_of"]

OPERATORS: Mapping[str, Factory] = MappingProxyType(
    {**ARITHMETIC, **REDUCTION, **RESIZING, **SELECTION, **SHAPES, **SUPPRESSION, **WINDOWS}
)
