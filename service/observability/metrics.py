"""Prometheus metrics. Each Metrics has its own registry, so two servers in one process stay separate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from service.batching import BatchObserver
from service.observability.cameras import CameraMetrics
from service.observability.events import EventMetrics
from service.observability.networks import GpuMetrics, NetworkMetrics
from service.observability.streams import StoreMetrics, StreamMetrics

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics(BatchObserver):
    """The server's counters, gauges and histograms. Batchers report to it directly."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, buckets=_SECONDS, registry=registry)
        total = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self.requests = counter("posewire_requests", "HTTP requests by route and status.", ["route", "status"])
        self.request_seconds = histogram(
            "posewire_request_seconds", "Time from a request's first byte to its answer's last.", ["route"]
        )
        self.part_seconds = histogram("posewire_part_seconds", "Latency of an image, split into parts.", ["part"])
        self.people = counter("posewire_people", "People found in images.")
        self.decode_failures = counter(
            "posewire_decode_failures", "Images that could not be decoded, by problem.", ["problem"]
        )
        self._ready = Gauge(
            "posewire_ready", "1 while /readyz answers 200.", registry=registry, multiprocess_mode="livemin"
        )
        self._batch_items = histogram(
            "posewire_batch_size", "Regions or images in a batch.", ["network"], buckets=(1, 2, 4, 8, 16, 32)
        )
        self._batch_seconds = histogram("posewire_batch_seconds", "Time that a batch ran.", ["network"])
        self._wait = histogram("posewire_queue_wait_seconds", "Time that an item waited for its batch.", ["network"])
        self._depth = total("posewire_queue_depth", "Work units that wait.", ["network"])
        self._events = {
            event: counter(f"posewire_{event}", text, ["network"])
            for event, text in {
                "cancelled": "Items dropped because their client left.",
                "expired": "Items whose deadline passed.",
                "failed": "Items that ended with an error.",
                "worker_restarts": "Worker threads that died and were replaced.",
            }.items()
        }
        self._rejected = counter("posewire_rejected", "Work refused on arrival, by reason.", ["network", "reason"])
        self._connections_refused = counter(
            "posewire_connections_refused", "Connections closed at a limit, by reason or status.", ["reason"]
        )
        self._connections = total("posewire_connections", "Open connections.")
        self._watchers = total("posewire_camera_watchers", "Connections that watch cameras: results and live pictures.")
        self._memory = total("posewire_client_memory_bytes", "Bytes held of `memory_mb`: bodies, pixels, answers.")
        self._task_failures = counter(
            "posewire_task_failures", "Background tasks that ended on their own, with an error or too early.", ["task"]
        )

        self._video_jobs = total("posewire_video_jobs", "Video jobs by state.", ["state"])
        self._video_bytes = total("posewire_video_bytes", "Bytes on disk of all video jobs.")

        # Looking a child up by its labels takes longer than counting. There are few children, so they are cached.
        self._requests_of = cache(self.requests.labels)
        self._request_seconds_of = cache(self.request_seconds.labels)
        self._part_seconds_of = cache(self.part_seconds.labels)
        self._batch_items_of = cache(self._batch_items.labels)
        self._batch_seconds_of = cache(self._batch_seconds.labels)
        self._wait_of = cache(self._wait.labels)

        self.cameras = CameraMetrics(registry)
        self.gpus = GpuMetrics(registry)
        self.networks = NetworkMetrics(registry)
        self.streams = StreamMetrics(registry, self.part_seconds, self.people)
        self.store = StoreMetrics(registry)
        self.events = EventMetrics(registry)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format, summed over the workers if there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            all_workers = CollectorRegistry()
            MultiProcessCollector(all_workers)  # type: ignore[no-untyped-call]
            return generate_latest(all_workers)
        return generate_latest(self._registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended. seconds: from its first byte to the last byte of its response."""
        self._requests_of(route, status).inc()
        self._request_seconds_of(route).observe(seconds)

    def estimated(self, seconds: Mapping[str, float], people: int) -> None:
        """Count an image. seconds: of each part: queue, prepare, infer, decode and serialise."""
        for part, value in seconds.items():
            self._part_seconds_of(part).observe(value)
        self.people.inc(people)

    def refused(self, reason: str) -> None:
        """Count a request that was refused before it reached a queue."""
        self._rejected.labels("", reason).inc()

    def task_ended(self, name: str) -> None:
        self._task_failures.labels(name).inc()

    def connection_refused(self, reason: str) -> None:
        """Count a connection closed at a limit. reason: `share`, `full` or `evicted`, or the status of the response."""
        self._connections_refused.labels(reason).inc()

    def video_jobs(self, jobs: Mapping[str, int], size: int) -> None:
        """Set the gauges of video jobs. jobs: their number by state. size: bytes of their files."""
        for state in ("uploading", "queued", "running", "done", "failed"):
            self._video_jobs.labels(state).set(jobs.get(state, 0))
        self._video_bytes.set(size)

    def refresh(self, ready: bool, depths: Mapping[str, int], connections: int, memory: int, watchers: int = 0) -> None:
        """Set the gauges. depths: waiting work units by network. memory: bytes held. watchers: of cameras."""
        self._watchers.set(watchers)
        self._ready.set(ready)
        self._connections.set(connections)
        self._memory.set(memory)
        for network, units in depths.items():
            self._depth.labels(network).set(units)

    def batch_started(self, name: str, items: int, units: int) -> None:  # noqa: ARG002
        self._batch_items_of(name).observe(units)

    def batch_finished(self, name: str, items: int, seconds: float) -> None:  # noqa: ARG002
        self._batch_seconds_of(name).observe(seconds)

    def waited(self, name: str, seconds: float) -> None:
        self._wait_of(name).observe(seconds)

    def rejected(self, name: str, reason: str) -> None:
        self._rejected.labels(name, reason).inc()

    def cancelled(self, name: str) -> None:
        self._events["cancelled"].labels(name).inc()

    def expired(self, name: str) -> None:
        self._events["expired"].labels(name).inc()

    def failed(self, name: str) -> None:
        self._events["failed"].labels(name).inc()

    def restarted(self, name: str) -> None:
        self._events["worker_restarts"].labels(name).inc()
