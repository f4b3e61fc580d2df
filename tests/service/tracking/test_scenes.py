"""Identities in drawn scenes: crossing, missed, hidden, gone and back, with a camera that moves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.plans import PLANS
from tests.scenes import HEIGHT, WIDTH
from tests.service.tracking.metrics import RECORDED, SEEDS, figures, scene, switches


@pytest.mark.parametrize("seed", range(SEEDS["crossing"]))
def test_crossing_people_with_perfect_detections_keep_their_ids(seed: int) -> None:
    assert switches("crossing", seed) == 0


@pytest.mark.parametrize("seed", range(SEEDS["missed"]))
def test_at_most_one_id_changes_if_every_fifth_detection_is_missing(seed: int) -> None:
    assert switches("missed", seed) <= 1


def test_people_are_recognised_after_two_seconds_out_of_sight() -> None:
    assert sum(switches("occluded", seed) == 0 for seed in range(10)) >= 8


@pytest.mark.parametrize("seed", range(SEEDS["disconnected"]))
def test_people_are_recognised_after_five_seconds_without_a_connection(seed: int) -> None:
    assert switches("disconnected", seed) == 0


def test_no_metric_drops() -> None:
    """After an improvement, run python -m tests.service.tracking.metrics."""
    recorded, now = json.loads(RECORDED.read_text("utf-8")), figures()
    assert recorded.keys() == now.keys() == PLANS.keys()
    for name, before in recorded.items():
        assert now[name]["switches"] <= before["switches"], name
        for measure in ("idf1", "hota", "mota"):
            assert now[name][measure] > before[measure] - 0.005, (name, measure)


def test_scenes_have_their_declared_properties() -> None:
    steps = scene("occluded", 0)
    walker = [step.timestamp for step in steps if 1 in step.who]
    assert max(np.diff(walker)) > 1.9  # hidden for two seconds
    assert all(step.frame.shape == (HEIGHT, WIDTH, 3) and step.frame.dtype == np.uint8 for step in steps)
    assert all(len(step.who) == len(step.seen) for step in steps)
    times = [step.timestamp for step in scene("disconnected", 0)]
    assert max(np.diff(times)) > 4.9
