"""Metrics of the networks, and of the GPUs that run them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Gauge

from engines.runtimes.base import RuntimeSpec
from engines.runtimes.nvml import GpuState


class NetworkMetrics:
    """The device and precision of each network, which change when a TensorRT plan replaces the graph."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        self._info = gauge(
            "posewire_network_info", "1 for what a network runs on now and in which arithmetic.",
            ["network", "device", "precision"],
        )  # fmt: skip
        self._fallbacks = gauge(
            "posewire_precision_fallback", "1 where a network runs in another arithmetic than was asked for, because "
            "the accuracy gate refused it, its plan failed, or its device has none.", ["network"],
        )  # fmt: skip
        self._shown: dict[str, tuple[str, str]] = {}

    def refresh(self, network: str, spec: RuntimeSpec, *, fallback: bool) -> None:
        """Set the gauges of a network. fallback: it does not run in the requested precision."""
        now = spec.device, spec.precision
        before = self._shown.get(network, now)
        if before != now:
            self._info.labels(network, *before).set(0)
        self._info.labels(network, *now).set(1)
        self._shown[network] = now
        self._fallbacks.labels(network).set(fallback)


class GpuMetrics:
    """Load, memory and power of whole GPUs. All workers of a server report the same GPUs."""

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
        """Set the gauges of each GPU."""
        for state in states:
            gpu = str(state.index)
            self._utilisation.labels(gpu).set(state.utilisation)
            self._used.labels(gpu).set(state.memory_used)
            self._total.labels(gpu).set(state.memory_total)
            self._power.labels(gpu).set(state.power)
