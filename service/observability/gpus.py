"""What is told of the GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from engines.runtimes.nvml import GpuState


class GpuMetrics:
    """As whole GPUs, whoever uses them; the workers of one server see the same ones."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._utilisation, self._used, self._total, self._power = (
            Gauge(f"posewire_gpu_{name}", text, ["gpu"], registry=registry, multiprocess_mode="mostrecent")
            for name, text in {
                "utilisation": "Part of the last second for which the GPU did something.",
                "memory_used_bytes": "Memory of the GPU that is taken.",
                "memory_total_bytes": "Memory of the GPU.",
                "power_watts": "Power that the GPU draws.",
            }.items()
        )

    def refresh(self, states: Iterable[GpuState]) -> None:
        """Tell this of each GPU from now on."""
        for state in states:
            gpu = str(state.index)
            self._utilisation.labels(gpu).set(state.utilisation)
            self._used.labels(gpu).set(state.memory_used)
            self._total.labels(gpu).set(state.memory_total)
            self._power.labels(gpu).set(state.power)
