"""`posewire serve` that fails at one step of its start: python -m tests.failing_server serve ...

POSEWIRE_TEST_STEP names the step. By then a process that tracks people runs, as if a stream had begun.
"""

from __future__ import annotations

import os
import sys
from typing import Any
from unittest.mock import patch

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.api import app, lifecycle
from service.batching import Batcher
from service.cli.main import main
from service.inference.plan_builder import PlanBuilder
from service.process.supervisor import Supervisor
from service.streams.store.memory import MemoryStore
from service.tracking_workers.pool import TrackingWorkers
from service.tracking_workers.state import TrackingOptions

STEPS = {
    "networks": (Batcher, "start"),
    "plans": (PlanBuilder, "start"),
    "store": (MemoryStore, "start"),
    "tasks": (Supervisor, "keep"),
    "signals": (lifecycle, "_draining"),
}
_trackers: list[TrackingWorkers] = []
_open = app._open_tracking_workers


def _remember(*arguments: Any) -> TrackingWorkers:
    _trackers.append(_open(*arguments))
    return _trackers[0]


async def _track(*_: Any) -> None:
    """In place of the first step: as if a stream had begun."""
    stream = _trackers[0].stream(COCO_17, TrackingOptions())
    tracked = await stream.__aenter__()
    await tracked.update(Poses.empty(COCO_17), np.zeros((48, 64, 3), np.uint8), 0.0)
    sys.stderr.write(f"tracker {_trackers[0].processes[0].pid}\n")


def _fail(*_: Any, **__: Any) -> Any:
    raise OSError("no such luck")


if __name__ == "__main__":
    start = lifecycle._start

    async def start_with_a_tracker(*arguments: Any) -> None:
        await _track()
        await start(*arguments)

    target, name = STEPS[os.environ["POSEWIRE_TEST_STEP"]]
    with (
        patch.object(app, "_open_tracking_workers", _remember),
        patch.object(lifecycle, "_start", start_with_a_tracker),
        patch.object(target, name, _fail),
    ):
        main()
