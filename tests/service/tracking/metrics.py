"""Tracking metrics of the drawn scenes; python -m tests.service.tracking.metrics writes them to the file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.evaluation import TrackedFrame, clear_mot, compare_poses, hota, identity
from service.tracking import PoseTracker
from tests.plans import PLANS
from tests.scenes import Step, play

RECORDED = Path(__file__).resolve().parents[2] / "tracking_metrics.json"
SEEDS = {"crossing": 4, "missed": 5, "occluded": 10, "disconnected": 4}
_OTHERS = 3
_DISCONNECTED_SECONDS = 4.0


@cache
def scene(name: str, seed: int) -> list[Step]:
    """Return a scene, which is drawn once."""
    return play(PLANS[name](seed), seed)


@cache
def tracked(name: str, seed: int) -> list[Poses]:
    """Track a scene as a server does, which keeps the state while a client is disconnected."""
    tracker = PoseTracker(COCO_17)
    results, last = [], 0.0
    for step in scene(name, seed):
        if step.timestamp - last > _DISCONNECTED_SECONDS:
            before, tracker = tracker, PoseTracker(COCO_17)
            tracker.restore(before.state())
        results.append(tracker.update(step.seen, step.frame, step.timestamp))
        last = step.timestamp
    return results


def switches(name: str, seed: int) -> int:
    """Count how often a found person got another id than before."""
    ids: dict[int, int] = {}
    count = 0
    for step, result in zip(scene(name, seed), tracked(name, seed), strict=True):
        assert result.ids is not None
        for person, number in zip(step.who.tolist(), result.ids.tolist(), strict=True):
            if person and number >= 0:
                count += ids.setdefault(person, number) != number
                ids[person] = number
    return count


def figures() -> dict[str, dict[str, float]]:
    """Compute IDF1, HOTA, MOTA and switches of each scene over its seeds."""
    return {name: _figures(name, SEEDS.get(name, _OTHERS)) for name in PLANS}


def _figures(name: str, seeds: int) -> dict[str, float]:
    sequences: list[list[TrackedFrame]] = []
    for seed in range(seeds):
        pairs = zip(scene(name, seed), tracked(name, seed), strict=True)
        sequences.append([compare_poses(step.truth, result) for step, result in pairs])
    return {
        "idf1": round(identity(sequences).idf1, 4),
        "hota": round(hota(sequences).hota, 4),
        "mota": round(clear_mot(sequences).mota, 4),
        "switches": sum(switches(name, seed) for seed in range(seeds)),
    }


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(figures(), indent=2) + "\n", "utf-8")
