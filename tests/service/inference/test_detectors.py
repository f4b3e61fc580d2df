"""Every kind of detector, from its catalogue entry to the people that are estimated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from engines.catalogue import load
from engines.poses import Poses
from service.config import Settings
from service.inference.model_registry import open_serving
from service.inference.stage import InferenceOptions
from tests import drawn
from tests.drawn import Outputs
from tests.graphs import save_constant_graph, tiny_catalogue
from tests.pictures import photo

BOXES = np.array([(40, 40, 120, 220), (180, 60, 260, 230)], np.float32)  # in the input, half of the frame
SCORES = np.array([0.9, 0.8], np.float32)

TORCHVISION: Outputs = {"boxes": BOXES, "scores": SCORES, "labels": np.array([1, 1])}
TENSORFLOW: Outputs = {
    "detection_boxes": BOXES[None, :, [1, 0, 3, 2]] / np.array([256, 320, 256, 320], np.float32),
    "detection_scores": SCORES[None],
    "detection_classes": np.ones((1, 2), np.float32),
}
NAMES = 'boxes = "detection_boxes", scores = "detection_scores", labels = "detection_classes"'
CASES = {
    "torchvision": ("detections", TORCHVISION, ""),
    "tensorflow": ("detections", TENSORFLOW, f'{NAMES}, form = "yxyx", relative = true'),
    "yolox": ("yolox", drawn.yolox(320, 256, *BOXES), ""),
}


def catalogue(folder: Path, kind: str) -> Path:
    """The model `pair`, a small estimator, with a detector of this kind."""
    family, outputs, options = CASES[kind]
    save_constant_graph(folder / "detector.xml", outputs, 320, 256)
    path = tiny_catalogue(folder)
    path.write_text(
        path.read_text("utf-8").replace('detector = "pair-detector"', 'detector = "people-detector"')
        + f"""
[models.people-detector]
role = "detector"
family = "{family}"
source = {{ kind = "file", path = "." }}
files = [{{ path = "detector.xml" }}, {{ path = "detector.bin" }}]
input = {{ width = 320, height = 256 }}
options = {{ {options} }}
""",
        "utf-8",
    )
    return path


@pytest.mark.parametrize("kind", CASES)
def test_the_detected_people_are_estimated(tmp_path: Path, kind: str) -> None:
    serving = open_serving(load([catalogue(tmp_path, kind)]), ["pair"], Settings(precision="fp32"))

    async def scenario() -> Poses:
        await serving.start()
        try:
            poses, _ = await serving.default.pipeline.frame(np.asarray(photo(640, 480)), InferenceOptions(min_score=0))
            return poses
        finally:
            await serving.close(5.0)

    poses = asyncio.run(scenario())
    np.testing.assert_allclose(sorted(poses.boxes.tolist()), 2 * BOXES, atol=2)
