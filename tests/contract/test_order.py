"""Tensors on the device: a batch runs after the work that computes its inputs and before any that reads its outputs."""

from __future__ import annotations

import numpy as np
import pytest

from engines.crops.runners import TensorRuntime
from engines.runtimes import Runtime
from tests.contract.network import HEATMAPS, INPUT, MEANS, crops, expected, normalised

NEAR = 2e-4


@pytest.fixture
def tensors(runtime: Runtime) -> TensorRuntime:
    if not isinstance(runtime, TensorRuntime):
        pytest.skip("this runtime takes arrays of the host alone")
    return runtime


def test_tensors_give_the_same_outputs_as_arrays(tensors: TensorRuntime) -> None:
    import torch

    for count in (1, 3, tensors.spec.max_batch):
        batch = crops(count)
        got = tensors.run_tensors({INPUT: torch.from_numpy(batch).to(tensors.device)})
        assert list(got) == [HEATMAPS, MEANS]
        assert {output.device for output in got.values()} == {tensors.device}
        np.testing.assert_allclose(got[HEATMAPS].cpu().numpy(), expected(normalised(batch))[HEATMAPS], atol=NEAR)


def test_a_batch_waits_for_inputs_that_are_still_being_computed(tensors: TensorRuntime) -> None:
    """The inputs are computed on another stream behind other work; on the CPU everything runs in order anyway."""
    import torch

    batches = [crops(2, seed) for seed in range(6)]
    kept = []
    stream = torch.cuda.Stream(tensors.device) if tensors.device.type == "cuda" else None
    with torch.cuda.stream(stream):
        work = torch.ones(512, 512, device=tensors.device)
        for batch in batches:
            given = torch.from_numpy(batch).to(tensors.device)
            for _ in range(20):
                work = work @ work / 512
            late = (given * work[0, 0]).to(torch.uint8)  # times one, which is computed late
            kept.append(tensors.run_tensors({INPUT: late})[HEATMAPS] * 1)
            del given, late  # the next iteration reuses their memory
        if stream is not None:
            stream.synchronize()
    for got, batch in zip(kept, batches, strict=True):
        np.testing.assert_allclose(got.cpu().numpy(), expected(normalised(batch))[HEATMAPS], atol=NEAR)
