"""The benchmark of GPUs runs to its end, here with tiny sizes on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch

from engines.plans.find import PlanOrder
from tests.benchmarks.accelerator.throughput import build_in_time
from tests.benchmarks.gpu import main


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("nothing measured: there is no NVIDIA GPU that PyTorch can use here")


def test_a_plan_that_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="not built in the 0 s that were left"):
        build_in_time(PlanOrder(tmp_path / "net.onnx"), tmp_path, "tensorrt", 0)


def test_every_part_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--tiny", "--json", str(tmp_path / "gpu.json")]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))["rows"]
    assert [row["way"] for row in rows if "note" in row] == ["tensorrt_rtx", "tensorrt"]
    by_way = {(row["part"], row.get("way"), row.get("batch size")): row for row in rows}
    for way in ("torch eager", "ONNX Runtime fp32"):
        for batch_size in (1, 2):
            assert by_way["network", way, batch_size]["images/s"] > 0
            assert by_way["network", way, batch_size]["of matrix units"] > 0
    assert sum(row["part"] == "preparing" for row in rows) == 4
    served = by_way["serving", "ONNX Runtime, 64 at once", None]
    assert served["images/s"] > 0
    assert served["failed"].keys() <= {"503"}  # a machine with much else to do refuses some, and breaks nothing
    assert served["p50 alone ms"] > 0
    assert by_way["contract", "holds", None]["passed"] > 0
    assert "POST /pose with tiny" in capsys.readouterr().out
