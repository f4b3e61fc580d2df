"""What NVIDIA's driver says of the GPUs of this machine, or of this container."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU at one moment. utilisation: 0..1 of the last second for which something ran. memory: bytes. power: watts.

    What a GPU does not tell is nan: parts of one (MIG) have no utilisation.
    """

    index: int
    utilisation: float
    memory_used: float
    memory_total: float
    power: float


class Gpus:
    """The GPUs; none where there is no driver, or no cuda-bindings (they come with `posewire[tensorrt]`)."""

    def __init__(self) -> None:
        self._handles: Sequence[int] = ()
        try:
            from cuda.bindings import nvml
        except ImportError:
            return
        self._nvml = nvml
        try:
            nvml.init_v2()
            self._handles = [nvml.device_get_handle_by_index_v2(n) for n in range(nvml.device_get_count_v2())]
        except (nvml.NvmlError, RuntimeError):  # RuntimeError: there is no driver at all
            return

    def __len__(self) -> int:
        return len(self._handles)

    def look(self) -> list[GpuState]:
        """All of them now; takes a millisecond or so."""
        return [self._state(index, handle) for index, handle in enumerate(self._handles)]

    def _state(self, index: int, handle: int) -> GpuState:
        nvml = self._nvml
        return GpuState(
            index=index,
            utilisation=self._ask(lambda: nvml.device_get_utilization_rates(handle).gpu) / 100,
            memory_used=self._ask(lambda: nvml.device_get_memory_info_v2(handle).used),
            memory_total=self._ask(lambda: nvml.device_get_memory_info_v2(handle).total),
            power=self._ask(lambda: nvml.device_get_power_usage(handle)) / 1000,
        )

    def _ask(self, question: Callable[[], Any]) -> float:
        try:
            return float(question())
        except self._nvml.NvmlError:  # not supported, not permitted, or the GPU is lost
            return math.nan
