"""Metrics of the cameras that the server opens itself."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_AGES = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 10.0)
_OUTCOMES = ("decoded", "served", "dropped", "failed")


class CameraMetrics:
    """Metrics by camera. A camera that is removed takes its own with it, so there are those of `max_cameras` at most.

    The files in which several workers count cannot forget anything: there, a removed camera's counters stay.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self._up = Gauge(
            "posewire_camera_up", "1 while a camera is live and its frames get results; no value while it is paused.",
            ["camera"], registry=registry, multiprocess_mode="livemostrecent",
        )  # fmt: skip
        self._frames = counter(
            "posewire_camera_frames", "Frames of a camera: decoded, and served, dropped or failed.",
            ["camera", "outcome"],
        )  # fmt: skip
        self._damaged = counter("posewire_camera_damaged", "Packets of a camera that cannot be decoded.", ["camera"])
        self._lost = counter("posewire_camera_lost", "How often a camera was lost.", ["camera"])
        self._age = Histogram(
            "posewire_camera_age_seconds", "Age of a camera's frame when its people were known.",
            ["camera"], buckets=_AGES, registry=registry,
        )  # fmt: skip
        self._ownership = counter(
            "posewire_camera_ownership", "Cameras that this replica has taken, handed over or lost to another.",
            ["outcome"],
        )  # fmt: skip
        self._shown: dict[str, dict[str, int]] = {}
        self._forgets = "PROMETHEUS_MULTIPROC_DIR" not in os.environ

    def result(self, camera: str, age: float) -> None:
        """A frame's people are known, `age` seconds after its arrival."""
        self._age.labels(camera).observe(age)

    def ownership_changed(self, outcome: str) -> None:
        """A camera was `taken`, `handed-over` or `lost`."""
        self._ownership.labels(outcome).inc()

    def refresh(self, camera: str, *, up: bool | None, frames: Mapping[str, int], damaged: int, lost: int) -> None:
        """Set the gauge, and raise the counters to these totals. up: None while it is paused. frames: by outcome."""
        if up is not None:
            self._up.labels(camera).set(up)
        else:
            self._hide(camera)
        shown = self._shown.setdefault(camera, {})
        counters = {outcome: self._frames.labels(camera, outcome) for outcome in frames}
        counters |= {"damaged": self._damaged.labels(camera), "lost": self._lost.labels(camera)}
        for name, total in {**frames, "damaged": damaged, "lost": lost}.items():
            # Decoded frames are told once a second, so the number of dropped ones may fall for a moment.
            if (more := total - shown.get(name, 0)) > 0:
                counters[name].inc(more)
                shown[name] = total

    def forget(self, camera: str) -> None:
        """Remove a camera that there is no more."""
        self._hide(camera)
        if self._shown.pop(camera, None) is None or not self._forgets:
            return
        for outcome in _OUTCOMES:
            self._frames.remove(camera, outcome)
        for metric in (self._damaged, self._lost, self._age):
            metric.remove(camera)

    def _hide(self, camera: str) -> None:
        if self._forgets:
            self._up.remove(camera)
        else:
            self._up.labels(camera).set(math.nan)
