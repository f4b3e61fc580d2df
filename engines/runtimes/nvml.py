"""Load, memory and power of the GPUs of this machine or container, from NVIDIA's management library (NVML)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GpuState:
    """The state of one GPU at one moment.

    utilisation: the fraction of the last second in which a kernel ran, 0..1. memory: bytes. power: watts.
    Values that a GPU does not report are nan: MIG slices have no utilisation.
    """

    index: int
    utilisation: float
    memory_used: float
    memory_total: float
    power: float


class Gpus:
    """All GPUs; none without a driver or without cuda-bindings (part of `posewire[tensorrt]`)."""

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
        except (nvml.NvmlError, RuntimeError):  # RuntimeError: no driver is installed
            return

    def __len__(self) -> int:
        return len(self._handles)

    def read(self) -> list[GpuState]:
        """The current state of every GPU; takes about a millisecond."""
        return [self._state(index, handle) for index, handle in enumerate(self._handles)]

    def _state(self, index: int, handle: int) -> GpuState:
        nvml = self._nvml
        return GpuState(
            index=index,
            utilisation=self._value(lambda: nvml.device_get_utilization_rates(handle).gpu) / 100,
            memory_used=self._value(lambda: nvml.device_get_memory_info_v2(handle).used),
            memory_total=self._value(lambda: nvml.device_get_memory_info_v2(handle).total),
            power=self._value(lambda: nvml.device_get_power_usage(handle)) / 1000,
        )

    def _value(self, query: Callable[[], Any]) -> float:
        try:
            return float(query())
        except self._nvml.NvmlError:  # not supported, not permitted, or the GPU is lost
            return math.nan
