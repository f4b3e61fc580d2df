"""The flip test in a pipeline: an image and its mirror image have mirrored poses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from engines.catalogue import load
from engines.poses import Frame, Poses
from engines.skeletons import COCO_17
from service.config import Settings
from service.inference.model_registry import Serving, open_serving
from service.inference.stage import InferenceOptions
from tests.graphs import tiny_catalogue
from tests.pictures import photo


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    path = tiny_catalogue(tmp_path)
    path.write_text(
        path.read_text("utf-8") + "options = { flip = true, flip_shift = false }\n", "utf-8"
    )  # of the last, `tiny`
    return open_serving(load([path]), ["tiny"], Settings(precision="fp32"))


def test_mirrored_images_have_mirrored_poses(serving: Serving) -> None:
    frame = np.ascontiguousarray(np.asarray(photo(192, 256)))
    mirror = np.ascontiguousarray(frame[:, ::-1])

    async def scenario(*frames: Frame) -> list[Poses]:
        await serving.start()
        try:
            calls = [serving.default.pipeline.frame(each, InferenceOptions(min_score=0)) for each in frames]
            return [poses for poses, _ in await asyncio.gather(*calls)]
        finally:
            await serving.close(5.0)

    original, reflected = asyncio.run(scenario(frame, mirror))
    order = np.arange(17)
    for left, right in COCO_17.pairs:
        order[[left, right]] = right, left
    np.testing.assert_allclose(reflected.keypoint_scores[0], original.keypoint_scores[0, order], atol=1e-5)
    expected = original.keypoints[0, order] * (-1, 1) + (191, 0)
    np.testing.assert_allclose(reflected.keypoints[0], expected, atol=4)  # both images count cells from 0
