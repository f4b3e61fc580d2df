"""Graphs say in the shapes of their outputs how many keypoints they give."""

from __future__ import annotations

from typing import Any

import pytest

from engines.families.associative_embedding import AssociativeEmbedding
from engines.families.base import HasKeypointCount
from engines.families.detections import KeypointDetector
from engines.families.heatmap import Heatmap
from engines.families.movenet import MoveNet
from engines.families.rtmo import RTMO
from engines.families.simcc import SimCC
from engines.families.yolo_pose import YOLOPose
from engines.inputs import PixelInput
from engines.skeletons import COCO_17

PIXELS = PixelInput(256, 192)


@pytest.mark.parametrize(
    ("family", "options", "outputs", "count"),
    [
        (Heatmap, {}, {"maps": (21, 64, 48)}, 21),
        (Heatmap, {"output": "maps"}, {"other": (5,), "maps": (21, 64, 48)}, 21),
        (Heatmap, {}, {"maps": (-1, 64, 48)}, None),
        (SimCC, {}, {"simcc_y": (133, 512), "simcc_x": (133, 384)}, 133),
        (RTMO, {}, {"dets": (-1, 5), "keypoints": (-1, 14, 3)}, 14),
        (YOLOPose, {}, {"output0": (5 + 3 * 21, 8400)}, 21),
        (YOLOPose, {"layout": "rows"}, {"output0": (25500, 6 + 3 * 17)}, 17),
        (YOLOPose, {"layout": "end-to-end"}, {"output0": (300, 6 + 3 * 5 + 1)}, 16 / 3),
        (YOLOPose, {}, {"output0": (-1, -1)}, None),
        (KeypointDetector, {}, {"keypoints": (-1, 17, 3), "boxes": (-1, 4)}, 17),
        (KeypointDetector, {}, {"keypoints": ()}, None),
        (AssociativeEmbedding, {}, {"out_low": (34, 128, 128), "out_high": (17, 256, 256)}, 17),
    ],
)
def test_the_number_of_keypoints(family: Any, options: dict[str, Any], outputs: Any, count: float | None) -> None:
    opened = family(PIXELS, COCO_17, **options)
    assert isinstance(opened, HasKeypointCount)
    assert opened.keypoint_count(outputs) == count


def test_a_family_for_one_skeleton_has_nothing_to_count() -> None:
    assert not isinstance(MoveNet(PIXELS), HasKeypointCount)
