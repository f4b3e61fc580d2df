"""What is told of the networks that run."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from engines.runtimes.base import RuntimeSpec


class NetworkMetrics:
    """On what and in which arithmetic each runs, which changes when a TensorRT plan takes over."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "posewire_network_info", "1 for what a network runs on now and in which arithmetic.",
            ["network", "device", "precision"], registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self._fallbacks = Gauge(
            "posewire_precision_fallback", "1 where a network runs in another arithmetic than was asked for, because "
            "the accuracy gate refused it, its plan failed, or its device has none.", ["network"], registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self._shown: dict[str, tuple[str, str]] = {}

    def refresh(self, network: str, spec: RuntimeSpec, *, fallback: bool) -> None:
        """Tell this of a network from now on."""
        now = spec.device, spec.precision
        before = self._shown.get(network, now)
        if before != now:
            self._info.labels(network, *before).set(0)
        self._info.labels(network, *now).set(1)
        self._shown[network] = now
        self._fallbacks.labels(network).set(fallback)
