"""Non-maximum suppression, plain and weighted."""

from __future__ import annotations

import numpy as np
import pytest

from engines.ops.nms import group, iou, nms, weighted_nms, within

SQUARE = (0, 0, 10, 10)
SHIFTED = (5, 0, 15, 10)  # half of SQUARE, so an IoU of 50 / 150
AWAY = (20, 20, 30, 30)
LINE = (3, 3, 3, 9)
INSIDE_OUT = (10, 10, 0, 0)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def scores(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_iou_is_computed_for_all_pairs_of_boxes() -> None:
    overlap = iou(boxes(SQUARE, SHIFTED), boxes(SQUARE, SHIFTED, AWAY))
    np.testing.assert_allclose(overlap, [[1, 1 / 3, 0], [1 / 3, 1, 0]], rtol=1e-6)
    assert overlap.dtype == np.float32


@pytest.mark.parametrize("nothing", [LINE, INSIDE_OUT])
def test_a_box_without_area_overlaps_nothing(nothing: tuple[float, float, float, float]) -> None:
    np.testing.assert_array_equal(iou(boxes(nothing), boxes(SQUARE, nothing)), [[0, 0]])


def test_the_best_of_overlapping_boxes_remains() -> None:
    assert nms(boxes(SQUARE, AWAY, SHIFTED), scores(0.5, 0.6, 0.9), 0.3).tolist() == [2, 1]


def test_a_box_with_the_threshold_as_iou_remains() -> None:
    assert nms(boxes(SQUARE, SHIFTED), scores(0.9, 0.5), 0.34).tolist() == [0, 1]


def test_a_suppressed_box_does_not_suppress_others() -> None:
    chain = boxes((0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10))
    assert nms(chain, scores(0.9, 0.8, 0.7), 0.3).tolist() == [0, 2]


def test_equal_scores_keep_their_order_and_a_box_without_area_is_its_own_group() -> None:
    assert nms(boxes(LINE, AWAY, LINE), scores(0.5, 0.5, 0.5), 0.3).tolist() == [0, 1, 2]


def test_grouping_returns_the_leader_of_each_candidate() -> None:
    similarity = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])
    leaders, leader_of = group(similarity, scores(0.2, 0.8, 0.5), 0.5)
    assert leaders.tolist() == [1, 2]
    assert leader_of.tolist() == [0, 0, 1]


def test_weighted_suppression_averages_each_group_by_score() -> None:
    values = np.array([[0, 100], [40, 200], [7, 7]], np.float32)
    leaders, means = weighted_nms(boxes(SQUARE, SHIFTED, AWAY), scores(0.6, 0.2, 0.9), values, 0.3)
    assert leaders.tolist() == [2, 0]
    np.testing.assert_allclose(means, [[7, 7], [10, 125]], rtol=1e-6)  # 3 parts of the first, 1 of the second


def test_no_boxes_in_gives_no_boxes_out() -> None:
    leaders, means = weighted_nms(boxes(), scores(), np.zeros((0, 8), np.float32), 0.3)
    assert leaders.tolist() == []
    assert means.shape == (0, 8)


def test_within_is_the_share_of_the_inner_box() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [2, 2, 4, 4], [3, 3, 3, 9]], float)
    assert within(boxes).tolist() == [[1, 0.5, 1, 0], [0.5, 1, 0, 0], [0.04, 0, 1, 0], [0, 0, 0, 0]]
