"""Runs a plan on torch tensors, for crops that are cut out and outputs that are decoded on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.inputs import Arrays
from engines.runtimes.base import RuntimeSpec
from engines.runtimes.tensorrt.runtime import TensorRtRuntime


class TensorPlanRuntime:
    """Wraps a TensorRtRuntime whose outputs have fixed sizes, and closes it. Needs a torch with CUDA."""

    def __init__(self, plan: TensorRtRuntime, device: torch.device) -> None:
        self._plan = plan
        self._device = device
        self._outputs = {
            spec.name: (spec.shape, torch.from_numpy(np.empty(0, spec.dtype)).dtype) for spec in plan.spec.outputs
        }

    @property
    def spec(self) -> RuntimeSpec:
        """See `Runtime.spec`."""
        return self._plan.spec

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self._device

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        return self._plan.run(feeds)

    def run_tensors(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Like `run`, in order with the work on torch's current stream. Returns once the work is queued."""
        inputs = {name: tensor.contiguous() for name, tensor in feeds.items()}
        count = len(next(iter(inputs.values())))
        results = {
            name: torch.empty((count, *shape), dtype=dtype, device=self._device)
            for name, (shape, dtype) in self._outputs.items()
        }
        # Both belong to the current stream, which continues only after the plan has read and written them, so their
        # memory is not reused before that.
        self._plan.run_on_device(
            {name: tensor.data_ptr() for name, tensor in inputs.items()},
            {name: tensor.data_ptr() for name, tensor in results.items()},
            count,
            int(torch.cuda.current_stream(self._device).cuda_stream),
        )
        return results

    def release(self) -> None:
        """See `Runtime.release`."""
        self._plan.release()

    def close(self) -> None:
        """See `Runtime.close`."""
        self._plan.close()
