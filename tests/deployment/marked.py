"""Pictures whose pixels encode people, and a model that decodes them: a ground truth through a whole server.

Block (j, n) of a picture is keypoint j of person n: red is x, green is y, blue the score. The graph turns one pixel of
each block into YOLO-Pose's rows, so that a real runtime finds exactly these people, at the cost of a very light
network. Blocks of one pixel suit pictures without loss, and those of 8 suit JPEG, which changes values by one or two.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op
from PIL import Image

from engines.poses import Floats, Frame

SIZE = 256
BLOCK = 8
_PEOPLE, _KEYPOINTS = 8, 17


def picture(people: Sequence[tuple[Floats, float]]) -> bytes:
    """Return a PNG of `SIZE` pixels that encodes people: (17, 2) keypoints in pixels and a score, at most eight."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(people)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def jpeg_picture(people: Sequence[tuple[Floats, float]]) -> bytes:
    """As `picture`, but a JPEG with blocks of `BLOCK` pixels."""
    marks = pixels(people)[:_PEOPLE, :_KEYPOINTS]
    blocks = np.zeros((SIZE, SIZE, 3), np.uint8)
    blocks[: _PEOPLE * BLOCK, : _KEYPOINTS * BLOCK] = marks.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(blocks).save(buffer, "JPEG", quality=98, subsampling=0)
    return buffer.getvalue()


def pixels(people: Sequence[tuple[Floats, float]]) -> Frame:
    """Return a picture with blocks of one pixel."""
    marked = np.zeros((SIZE, SIZE, 3), np.uint8)
    for row, (points, score) in enumerate(people):
        marked[row, :_KEYPOINTS, :2] = points.round().clip(0, SIZE - 1)
        marked[row, :_KEYPOINTS, 2] = round(255 * score)
    return marked


def marked_catalogue(folder: Path, block: int = 1) -> Path:
    """Return a catalogue file in `folder` with the model `marked`, which decodes such pictures."""
    image = op.parameter([1, 3, SIZE, SIZE], ov.Type.f32, name="image")
    first, end = [block // 2] * 2, [_PEOPLE * block, _KEYPOINTS * block]
    marks = op.slice(image, np.array(first), np.array(end), np.array([block, block]), np.array([2, 3]))
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
