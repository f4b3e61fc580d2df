"""Grouping by tags, compared with the code of HigherHRNet's authors where available, and on synthetic scenes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.families.tag_grouping import GroupingOptions, adjust, candidates, match, refine
from engines.poses import Floats, Region, to_frame
from tests.shared import SHARED, needs_shared

GOLDENS = sorted(path.stem for path in (SHARED / "goldens/decoders").glob("ae_group_*.json"))
NAMES = {
    "max_num_people": "max_people",
    "detection_threshold": "min_score",
    "tag_threshold": "max_distance",
    "nms_kernel": "window",
    "use_detection_val": "by_score",
    "ignore_too_much": "full_is_full",
}


def scene(*people: dict[int, tuple[int, int, float, float]], keypoints: int = 3) -> tuple[Floats, Floats]:
    """Heatmaps and tags of people given by keypoint as (x, y, score, tag), each drawn as a disk of five cells."""
    heatmaps, tags = np.zeros((keypoints, 40, 60), np.float32), np.zeros((keypoints, 40, 60, 1), np.float32)
    ys, xs = np.mgrid[:40, :60]
    for person in people:
        for keypoint, (x, y, score, tag) in person.items():
            distance = np.hypot(xs - x, ys - y)
            heatmaps[keypoint] = np.maximum(heatmaps[keypoint], score * np.exp(-np.square(distance) / 4))
            tags[keypoint, distance < 4, 0] = tag
    return heatmaps, tags


def test_keypoints_with_similar_tags_are_one_person() -> None:
    heatmaps, tags = scene(
        {0: (10, 10, 0.9, 1.0), 1: (12, 20, 0.8, 1.2), 2: (14, 30, 0.7, 0.9)},
        {0: (40, 10, 0.6, 5.0), 1: (22, 20, 0.9, 5.1), 2: (44, 30, 0.5, 4.9)},  # its second is nearer to the other
    )
    people = match(candidates(heatmaps, tags, GroupingOptions()), [0, 1, 2], GroupingOptions())
    assert people[..., :2].astype(int).tolist() == [[[10, 10], [12, 20], [14, 30]], [[40, 10], [22, 20], [44, 30]]]
    np.testing.assert_allclose(people[0, :, 2], [0.9, 0.8, 0.7], atol=1e-6)


def test_a_new_tag_begins_a_person() -> None:
    heatmaps, tags = scene({0: (10, 10, 0.9, 1.0)}, {1: (30, 20, 0.8, 3.0)})
    people = match(candidates(heatmaps, tags, GroupingOptions()), [0, 1, 2], GroupingOptions())
    assert (people[..., 2] > 0).tolist() == [[True, False, False], [False, True, False]]
    full = GroupingOptions(max_people=1, full_is_full=True)
    assert len(match(candidates(heatmaps, tags, full), [0, 1, 2], full)) == 1


def test_missing_keypoints_are_found_by_their_tag() -> None:
    heatmaps, tags = scene(
        {0: (10, 10, 0.9, 1.0), 1: (12, 20, 0.05, 1.0)}, {0: (40, 10, 0.9, 5.0), 1: (42, 20, 0.9, 5.0)}
    )
    people = match(candidates(heatmaps, tags, GroupingOptions()), [0, 1, 2], GroupingOptions())
    assert people[0, 1, 2] == 0
    found = refine(adjust(people, heatmaps), heatmaps, tags)
    np.testing.assert_allclose(found[0, 1, :2], (12.5, 20.5), atol=0.3)
    assert found[0, 1, 2] == pytest.approx(0.05)
    assert (found[:, 2, 2] == 0).all()  # no person has the third keypoint


def test_empty_heatmaps_give_no_people() -> None:
    heatmaps, tags = scene()
    people = match(candidates(heatmaps, tags, GroupingOptions()), [0, 1, 2], GroupingOptions())
    assert refine(adjust(people, heatmaps), heatmaps, tags).shape == (0, 3, 4)


@needs_shared
@pytest.mark.parametrize("name", GOLDENS)
def test_people_equal_those_of_the_authors_code(name: str) -> None:
    golden = np.load(SHARED / f"goldens/decoders/{name}.npz")
    index: dict[str, Any] = json.loads((SHARED / f"goldens/decoders/{name}.json").read_text("utf-8"))
    heatmaps, tags = golden["heatmaps"][0], golden["tags"][0]
    for variant, parameters in index["variants"].items():
        if not parameters["assignment_unique"]:
            continue
        how = GroupingOptions(**{NAMES[key]: value for key, value in parameters.items() if key in NAMES})
        people = match(candidates(heatmaps, tags, how), index["joint_order"], how)
        expected = golden[f"{variant}_people"]
        assert people.shape == expected.shape, variant
        np.testing.assert_allclose(people[..., 2].mean(axis=1), golden[f"{variant}_scores"], atol=1e-6)
        if parameters["adjust"]:
            people = adjust(people, heatmaps)
        if parameters["refine"]:
            people = refine(people, heatmaps, tags)
        np.testing.assert_allclose(people[..., :2], expected[..., :2], atol=1e-3, err_msg=variant)
        np.testing.assert_allclose(people[..., 2], expected[..., 2], atol=1e-6, err_msg=variant)
        np.testing.assert_allclose(people[..., 3:], expected[..., 3:], atol=1e-5, err_msg=variant)
        if variant == "default" and len(people):
            (x, y), side = index["final_center"], 200 * index["final_scale"][0]
            height, width = heatmaps.shape[1:]
            placed = to_frame(people[..., :2], [Region(x, y, side, side * height / width)] * len(people), width, height)
            np.testing.assert_allclose(placed, golden["default_final_image_xy"], atol=5e-3)


@needs_shared
def test_all_goldens_exist() -> None:
    assert len(GOLDENS) >= 9
    assert Path(SHARED / "goldens/decoders/ae_group_j17_p30_t2.npz").is_file()
