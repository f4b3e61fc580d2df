"""Crops to calibrate and to judge a network on: of the user's images as the network will see them, or drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from engines.build.accuracy_gate.images import CalibrationError, images_in, spread
from engines.catalogue.models import Model
from engines.crops.views import CpuView
from engines.families import Detector, open_detector, open_estimator, open_finder
from engines.inputs import Arrays, PixelInput
from engines.ops.affine import align, crop
from engines.poses import Detections, Frame, Region
from engines.runtimes import open_runtime

Crops = NDArray[np.uint8]
"""(n, height, width, 3) uint8 RGB."""


def crops_of_images(folder: Path, model: Model, catalogue: Mapping[str, Model], limit: int = 64) -> Crops:
    """What `model` is shown of the images in `folder`, at most `limit` crops from all over it, in order of names.

    An estimator sees the people that its detector finds, in fp32; other models the whole frame.
    Raises CalibrationError where there are no images, one cannot be read, or nobody is found on any, and FetchError.
    """
    paths = images_in(folder)
    crops: list[Crops] = []
    with _regions(model, catalogue) as regions:
        for path in paths:
            frame = _read(path)
            crops.extend(_cut(frame, region, model.input) for region in regions(frame))
    if not crops:
        raise CalibrationError(f"{model.detector} finds nobody on the {len(paths)} images in {folder}")
    return np.stack(spread(crops, limit))


def drawn_crops(pixels: PixelInput, count: int = 16) -> Crops:
    """Pictures for a network to be judged on where there are none: soft light, edges of all directions, and grain, in
    the shares that photographs have (an amplitude of 1/frequency), with a bright figure of strokes before it.
    """
    rng = np.random.default_rng(0)
    height, width = pixels.height, pixels.width
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.fftfreq(width) * width).clip(min=1)
    crops = np.empty((count, height, width, 3), np.uint8)
    for picture in crops:
        noise = np.fft.fft2(rng.normal(size=(height, width, 3)), axes=(0, 1)) / frequency[..., None]
        light = np.fft.ifft2(noise, axes=(0, 1)).real
        picture[:] = (128 + 45 * (light - light.mean()) / light.std()).clip(0, 255)
        joints = np.cumsum(rng.normal(0, 0.15, (9, 2)), axis=0) * min(height, width) + (width / 2, height / 2)
        colour = rng.integers(0, 256, 3).tolist()
        cv2.polylines(picture, [joints.astype(np.int32)], False, colour, max(2, min(height, width) // 16))
        cv2.circle(picture, joints[0].astype(int).tolist(), max(2, min(height, width) // 10), colour, -1)
    return crops


def as_inputs(graph: Path, crops: Crops, pixels: PixelInput) -> list[Arrays]:
    """The crops one by one as the only input of the ONNX graph: as they are if it takes uint8, else normalised.

    Raises CalibrationError where the graph does not take one image.
    """
    described = onnx.load(graph, load_external_data=False).graph
    constants = {tensor.name for tensor in described.initializer}
    ports = [port for port in described.input if port.name not in constants]
    shape = ports[0].type.tensor_type.shape.dim if ports else []
    if len(ports) != 1 or len(shape) != 4:
        raise CalibrationError(f"{graph} does not take one image; it cannot be shown any")
    if ports[0].type.tensor_type.elem_type == TensorProto.UINT8:
        return [{ports[0].name: one[None]} for one in crops]
    ordered = crops if pixels.order == "rgb" else crops[..., ::-1]
    normal = (ordered - np.array(pixels.mean, np.float32)) / np.array(pixels.std, np.float32)
    if shape[1].dim_value == 3:
        normal = np.moveaxis(normal, -1, 1)
    return [{ports[0].name: np.ascontiguousarray(one[None], np.float32)} for one in normal]


@contextmanager
def _regions(model: Model, catalogue: Mapping[str, Model]) -> Iterator[Callable[[Frame], Sequence[Region]]]:
    """What `model` looks at in a frame."""
    if model.role == "detector":
        detector = open_detector(model)
        yield lambda frame: detector.regions(frame.shape[1], frame.shape[0])
    elif model.role != "estimator":
        finder = open_finder(model)
        yield lambda frame: [finder.region(frame.shape[1], frame.shape[0])]
    elif model.detector is None:
        estimator = open_estimator(model)
        yield lambda frame: estimator.regions(_whole(frame))
    else:
        estimator, entry = open_estimator(model), catalogue[model.detector]
        detector = open_detector(entry)
        runtime = open_runtime(entry.fetch(), precision="fp32", pixels=entry.input, outputs=detector.outputs)
        try:
            view = CpuView(runtime, entry.input)
            yield lambda frame: estimator.regions(_people(frame, detector, view, entry.input))
        finally:
            runtime.close()


def _people(frame: Frame, detector: Detector, view: CpuView, pixels: PixelInput) -> Detections:
    height, width = frame.shape[:2]
    regions = [align(region, width, height, pixels) for region in detector.regions(width, height)]
    parts = [detector.decode(view([frame], [region]).outputs, [region])[0] for region in regions]
    return detector.merge(parts, regions)


def _whole(frame: Frame) -> Detections:
    return Detections(np.array([[0, 0, frame.shape[1], frame.shape[0]]], np.float32), np.ones(1, np.float32))


def _cut(frame: Frame, region: Region, pixels: PixelInput) -> Crops:
    out = np.empty((pixels.height, pixels.width, 3), np.uint8)
    crop(frame, align(region, frame.shape[1], frame.shape[0], pixels), pixels, out)
    return out


def _read(path: Path) -> Frame:
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB) if path.stat().st_size else None
    if picture is None:
        raise CalibrationError(f"{path} is not an image, or is damaged")
    return picture.astype(np.uint8, copy=False)
