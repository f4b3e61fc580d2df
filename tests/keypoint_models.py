"""Models of other keypoints than COCO's, on graphs with the signature of RTMPose that find the same in every image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.skeletons import COCO_WHOLEBODY_133, HAND_21
from tests.graphs import save_constant_graph

WIDTH, HEIGHT = 192, 256
SCORE = 0.9
SCREWDRIVER = ("tip", "shaft", "collar", "grip", "cap")
MODELS = {"hand": HAND_21.keypoints, "whole": COCO_WHOLEBODY_133.keypoints, "tool": SCREWDRIVER}
"""The keypoints of each model by its name."""

_TABLE = """
[models.{name}]
role = "estimator"
family = "simcc"
skeleton = "{skeleton}"
source = {{ kind = "file", path = "." }}
files = [{{ path = "{name}.xml" }}, {{ path = "{name}.bin" }}]
input = {{ width = 192, height = 256 }}
"""
_TOOL = f"""
[skeletons.screwdriver]
keypoints = {list(SCREWDRIVER)}
limbs = [["tip", "shaft"], ["shaft", "collar"], ["collar", "grip"], ["grip", "cap"]]
mapping = {{ left_wrist = "cap", nose = ["tip", "shaft"] }}
"""


def points(name: str) -> NDArray[np.float32]:
    """The keypoints (K, 2) of a model's only person, in pixels of an image of WIDTH x HEIGHT."""
    count = len(MODELS[name])
    k = np.arange(count)
    inside = np.stack([40 + 112 * k / count, 128 + 80 * np.sin(1.7 * k)], axis=1)
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    return np.asarray((np.rint(inside) - centre) * 1.25 + centre, np.float32)  # the crop is 1.25 of the image


def keypoint_models(folder: Path) -> Path:
    """Write the models and a catalogue file with them and the skeleton `screwdriver` to `folder`."""
    tables = [_TOOL]
    skeletons = {"hand": HAND_21.name, "whole": COCO_WHOLEBODY_133.name, "tool": "screwdriver"}
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    for name, skeleton in skeletons.items():
        inside = np.rint((points(name) - centre) / 1.25 + centre).astype(int)
        bins = {"simcc_x": (inside[:, 0], WIDTH), "simcc_y": (inside[:, 1], HEIGHT)}
        outputs = {}
        for output, (places, size) in bins.items():
            outputs[output] = np.zeros((1, len(places), 2 * size), np.float32)
            outputs[output][0, np.arange(len(places)), 2 * places] = SCORE
        save_constant_graph(folder / f"{name}.xml", outputs, WIDTH, HEIGHT)
        tables.append(_TABLE.format(name=name, skeleton=skeleton))
    path = folder / "keypoints.toml"
    path.write_text("".join(tables), "utf-8")
    return path
