"""A plan that takes and gives tensors of torch on its device: for crops that are cut out and results read there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.runtimes.base import Arrays, RuntimeSpec
from engines.runtimes.tensorrt.runtime import TensorRtRuntime


class TensorPlanRuntime:
    """A TensorRtRuntime whose outputs have fixed sizes, beside a torch that has CUDA. Takes it over and closes it."""

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
        """Where the tensors are."""
        return self._device

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        return self._plan.run(feeds)

    def run_tensors(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As `run`, in the order of the work of torch's current stream, which waits for it; this thread does not."""
        given = {name: tensor.contiguous() for name, tensor in feeds.items()}
        count = len(next(iter(given.values())))
        results = {
            name: torch.empty((count, *shape), dtype=dtype, device=self._device)
            for name, (shape, dtype) in self._outputs.items()
        }
        # Both are of the current stream, which goes on only when the plan has read and written them: their memory
        # cannot be another's before that.
        self._plan.run_on_device(
            {name: tensor.data_ptr() for name, tensor in given.items()},
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
