"""The GPUs as their driver describes them; most machines have none."""

from __future__ import annotations

import pytest

from engines.runtimes.nvml import Gpus


def test_each_gpu_says_how_busy_and_how_full_it_is() -> None:
    gpus = Gpus()
    if not len(gpus):
        pytest.skip("needs an NVIDIA GPU, its driver, and posewire[tensorrt] or posewire[rtx]")
    for number, state in enumerate(gpus.look()):
        assert state.index == number
        assert 0 <= state.memory_used <= state.memory_total
        assert not state.utilisation > 1  # nan where it is not told
