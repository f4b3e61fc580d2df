"""The tiny network is the same in every file format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.runtimes import open_runtime
from tests.contract.network import INPUT, crops, expected, normalised, save_ir, save_onnx_graph


@pytest.mark.parametrize("form", ["xml", "onnx"])
def test_a_file_computes_the_same_as_numpy(form: str, tmp_path: Path) -> None:
    if form == "onnx":
        pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[onnxruntime]'")
    save = save_onnx_graph if form == "onnx" else save_ir
    runtime = open_runtime(save(tmp_path / f"tiny.{form}"), precision="fp32", max_batch=2)
    batch = normalised(crops(2))
    got, want = runtime.run({INPUT: batch}), expected(batch)
    assert list(got) == list(want)
    for name, right in want.items():
        np.testing.assert_allclose(got[name], right, atol=1e-4)
