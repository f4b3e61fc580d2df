"""COCO's keypoint AP."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from engines.skeletons import COCO_17
from service.evaluation import keypoint_ap
from tests.service.evaluation.videos import METRICS
from tests.shared import needs_shared

_STATS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
_AREA = 10_000.0


def truth() -> dict[str, Any]:
    """One large person of whom only the nose is labelled, at (50, 50)."""
    person = {"id": 1, "image_id": 5, "category_id": 1, "area": _AREA, "bbox": [0, 0, 100, 100], "iscrowd": 0}
    keypoints = [50, 50, 2, *[0] * 48]
    annotations = [{**person, "keypoints": keypoints, "num_keypoints": 1}]
    return {"images": [{"id": 5}], "categories": [{"id": 1}], "annotations": annotations}


def result(oks: float, score: float = 0.9, image: int = 5) -> dict[str, Any]:
    """A found person whose nose is at a distance that gives the similarity `oks`."""
    apart = np.sqrt(-np.log(oks) * 2 * _AREA) * 2 * COCO_17.sigmas[0]
    keypoints = [50 + float(apart), 50, 1, *[0, 0, 1] * 16]
    return {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": score}


def test_ap_counts_the_thresholds_that_a_pose_reaches() -> None:
    found = keypoint_ap(truth(), [result(oks=0.77)])
    assert found.ap_per_threshold == pytest.approx([1] * 6 + [0] * 4)  # 0.50 to 0.75
    assert (found.ap, found.ap50, found.ap75, found.ar) == pytest.approx((0.6, 1, 1, 0.6))
    assert (found.ap_large, found.ap_medium) == pytest.approx((0.6, -1))


def test_a_false_positive_with_a_higher_score_halves_precision() -> None:
    found = keypoint_ap(truth(), [result(oks=0.99), result(oks=0.01, score=0.95)])
    assert (found.ap, found.ar) == pytest.approx((0.5, 1))


def test_no_results_give_zero() -> None:
    found = keypoint_ap(truth(), [])
    assert (found.ap, found.ar) == (0, 0)


def test_results_of_another_image_are_refused() -> None:
    with pytest.raises(ValueError, match="the truth has no image 6"):
        keypoint_ap(truth(), [result(oks=0.9, image=6)])


def test_truth_and_results_are_not_changed() -> None:
    labelled, found = truth(), [{**result(oks=0.9), "bbox": [0, 0, 9, 9]}]
    before = copy.deepcopy((labelled, found))
    keypoint_ap(labelled, found)
    assert (labelled, found) == before


@needs_shared
@pytest.mark.parametrize("name", ["coco_synth", "coco_mini_val"])
def test_metrics_equal_those_of_pycocotools(name: str) -> None:
    expected, labelled, results = (
        json.loads((METRICS / f"{name}{part}.json").read_text("utf-8")) for part in ("", "_gt", "_pred")
    )
    found = keypoint_ap(labelled, results)
    assert [getattr(found, stat) for stat in _STATS] == pytest.approx(expected["stats"], abs=1e-6)
    assert found.ap_per_threshold == pytest.approx(np.array(expected["ap_per_iou"]), abs=1e-6)
    assert found.ar_per_threshold == pytest.approx(np.array(expected["ar_per_iou"]), abs=1e-6)
