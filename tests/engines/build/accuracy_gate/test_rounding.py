"""Graphs in fp16 and bf16 on a CPU, rounded after every node as on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[torch]'")

import onnx
from onnx.reference import ReferenceEvaluator

from engines.build.accuracy_gate.rounding import round_after_each_node
from engines.build.precision.convert import Precision, convert
from engines.runtimes import open_runtime
from tests.engines.build.small import save_network, spot_finder, spots, there_and_back


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("poisoned", [False, True])
def test_onnx_runtime_gives_what_every_operator_gives_in_its_declared_type(
    precision: Precision, poisoned: bool, tmp_path: Path
) -> None:
    middle, constants = there_and_back("Add", "Sub", 4096) if poisoned else ([], {})
    graph = save_network(tmp_path / "small.onnx", middle, constants=spot_finder() | constants)
    low = convert(graph, tmp_path / "low.onnx", precision).path
    onnx.save(round_after_each_node(onnx.load(low)), tmp_path / "rounded.onnx")
    feeds = {"images": spots()[:2]}
    with np.errstate(over="ignore", invalid="ignore"):
        want, exact = (np.asarray(next(iter(ReferenceEvaluator(str(path)).run(None, feeds)))) for path in (low, graph))
    [got] = open_runtime(tmp_path / "rounded.onnx", "onnxruntime", precision="fp32", device="cpu").run(feeds).values()
    assert np.abs(got - want).max() <= 1e-6
    assert np.abs(got - exact).max() > (0.1 if poisoned else 1e-4)
