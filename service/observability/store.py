"""What is counted of the store that servers share."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.streams.store.base import StoreObserver


class StoreMetrics(StoreObserver):
    """A RedisStore reports to it directly. Its name is a label, so that nothing shows where there is none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "posewire_store_up", "1 while the store that servers share can be reached.", ["store"], registry=registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._waiting = Gauge(
            "posewire_store_waiting", "States of streams that wait to be written to the store.", ["store"],
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self._writes = Counter(
            "posewire_store_writes", "States of streams: kept, refused (another server has the stream), or failed to "
            "be written for now.", ["outcome"], registry=registry,
        )  # fmt: skip

    def reached(self, up: bool) -> None:
        """See `StoreObserver.reached`."""
        self._up.labels("redis").set(up)

    def wrote(self, outcome: str, states: int) -> None:
        """See `StoreObserver.wrote`."""
        self._writes.labels(outcome).inc(states)

    def waiting(self, states: int) -> None:
        """See `StoreObserver.waiting`."""
        self._waiting.labels("redis").set(states)
