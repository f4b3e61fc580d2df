"""The state of the GPUs; most machines have none."""

from __future__ import annotations

import pytest

from engines.runtimes.nvml import Gpus


def test_each_gpu_reports_its_utilisation_and_memory() -> None:
    gpus = Gpus()
    if not len(gpus):
        pytest.skip("needs an NVIDIA GPU, its driver, and posewire[tensorrt] or posewire[rtx]")
    for number, state in enumerate(gpus.read()):
        assert state.index == number
        assert 0 <= state.memory_used <= state.memory_total
        assert not state.utilisation > 1  # nan if it is not reported
