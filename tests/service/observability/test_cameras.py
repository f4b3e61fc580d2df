"""Metrics of cameras that are removed, in the files that several workers share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

USED = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from service.observability.cameras import CameraMetrics
metrics = CameraMetrics(CollectorRegistry())
for decoded in (10, 30):
    metrics.refresh("door", up=True, frames={"decoded": decoded, "served": 5}, damaged=1, lost=0)
    metrics.forget("door")
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_with_several_workers_its_counters_stay_and_it_is_neither_up_nor_down(tmp_path: Path) -> None:
    """The files cannot forget: a camera that comes again goes on counting, so that rates are right."""
    variables = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USED], env=variables, capture_output=True, encoding="utf-8", check=True
    )
    assert 'posewire_camera_frames_total{camera="door",outcome="decoded"} 40.0' in done.stdout
    assert 'posewire_camera_up{camera="door"} NaN' in done.stdout
