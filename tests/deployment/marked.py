"""Pictures whose pixels encode people, and a model that decodes them: a ground truth through a whole server.

Pixel (j, n) of a picture is keypoint j of person n: red is x, green is y, blue the score. The graph turns those pixels
into YOLO-Pose's rows, so that a real runtime finds exactly these people, at the cost of a very light network.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op
from PIL import Image

from engines.poses import Floats

SIZE = 256
_PEOPLE, _KEYPOINTS = 8, 17


def picture(people: Sequence[tuple[Floats, float]]) -> bytes:
    """Return a PNG of `SIZE` pixels that encodes people: (17, 2) keypoints in pixels and a score, at most eight."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    for row, (points, score) in enumerate(people):
        pixels[row, :_KEYPOINTS, :2] = points.round().clip(0, SIZE - 1)
        pixels[row, :_KEYPOINTS, 2] = round(255 * score)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def marked_catalogue(folder: Path) -> Path:
    """Return a catalogue file in `folder` with the model `marked`, which decodes such pictures."""
    image = op.parameter([1, 3, SIZE, SIZE], ov.Type.f32, name="image")
    marks = op.slice(image, np.array([0, 0]), np.array([_PEOPLE, _KEYPOINTS]), np.array([1, 1]), np.array([2, 3]))
    marks = op.multiply(op.transpose(marks, np.array([0, 2, 3, 1])), op.constant(np.array([1, 1, 1 / 255], np.float32)))
    places = op.slice(marks, np.array([0]), np.array([2]), np.array([1]), np.array([3]))
    scores = op.slice(marks, np.array([2]), np.array([3]), np.array([1]), np.array([3]))
    low, high = op.reduce_min(places, np.array([2])), op.reduce_max(places, np.array([2]))
    score = op.reduce_mean(scores, np.array([2]))
    nothing = op.multiply(score, op.constant(np.float32(0)))  # the class
    flat = op.reshape(marks, np.array([0, 0, 3 * _KEYPOINTS]), special_zero=True)
    people = op.concat([low, high, score, nothing, flat], 2)
    image.output(0).set_names({"image"})
    people.output(0).set_names({"people"})
    model = ov.Model([people], [image], "marked")
    model.reshape({image.output(0): ov.PartialShape([-1, 3, SIZE, SIZE])})
    ov.save_model(model, folder / "marked.xml", compress_to_fp16=False)
    path = folder / "marked.toml"
    path.write_text(_MARKED, "utf-8")
    return path


_MARKED = f"""
[models.marked]
title = "a network that reads where people are from the picture"
role = "one-stage"
family = "yolo_pose"
skeleton = "coco-17"
licence = "Apache-2.0"
commercial = true
source = {{ kind = "file", path = "." }}
files = [{{ path = "marked.xml" }}, {{ path = "marked.bin" }}]
input = {{ width = {SIZE}, height = {SIZE} }}
options = {{ layout = "end-to-end" }}
"""
