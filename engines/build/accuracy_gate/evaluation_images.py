"""Evaluation images: crops that a network is calibrated and judged on, cut from the user's images or synthetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from engines.build.accuracy_gate.images import CalibrationError, images_digest, images_in, spread
from engines.build.crop_decoder import CropDecoder, crop_decoder
from engines.catalogue import Model
from engines.crops.runners import CpuCropRunner
from engines.families import open_detector, open_estimator, open_one_stage_model
from engines.families.base import Detector
from engines.inputs import Arrays, PixelInput
from engines.ops.affine import align, crop
from engines.poses import Detections, Frame, Region
from engines.runtimes import open_runtime

Crops = NDArray[np.uint8]
"""(n, height, width, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class EvaluationImages:
    """crops: (n, height, width, 3) uint8 RGB. decode, dense: see `engines.build.accuracy_gate.gate.compare`.

    digest: of the images the crops were cut from, see `engines.build.accuracy_gate.images`. None for synthetic crops,
    which int8 cannot be calibrated on.
    """

    crops: Crops
    decode: CropDecoder
    dense: bool
    digest: str | None = None


def evaluation_images_for(model: Model, catalogue: Mapping[str, Model], images: Path | None = None) -> EvaluationImages:
    """Crops of the images in the folder `images` as the model takes them, or synthetic crops if it is None.

    Raises CalibrationError and FetchError.
    """
    decode, dense = crop_decoder(model), has_dense_outputs(model)
    if images is None:
        return EvaluationImages(drawn_crops(model.input), decode, dense)
    crops = crops_of_images(images, model, catalogue)
    return EvaluationImages(crops, decode, dense, images_digest(images, model, catalogue))


def has_dense_outputs(model: Model) -> bool:
    """True if its outputs are maps and vectors, not lists of candidates in arbitrary order."""
    return model.role not in ("detector", "one-stage")


def crops_of_images(folder: Path, model: Model, catalogue: Mapping[str, Model], limit: int = 64) -> Crops:
    """The crops that `model` takes from the images in `folder`: at most `limit`, evenly spread, in order of file names.

    Estimators get the people that their detector finds in fp32, other models the whole frame.
    Raises FetchError, and CalibrationError if there are no images, one cannot be read, or no person is found.
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
    """Synthetic crops to judge a network on if there are no images.

    Noise with the spectrum of photographs (an amplitude of 1/frequency), with a bright stick figure in front of it.
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
    """One batch per crop for the only input of the ONNX graph: unchanged if it takes uint8, else normalised.

    Raises CalibrationError if the graph does not take one image.
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
    """A function that returns the regions of a frame to crop for `model`."""
    if model.role == "detector":
        detector = open_detector(model)
        yield lambda frame: detector.regions(frame.shape[1], frame.shape[0])
    elif model.role != "estimator":
        one_stage = open_one_stage_model(model)
        yield lambda frame: [one_stage.region(frame.shape[1], frame.shape[0])]
    elif model.detector is None:
        estimator = open_estimator(model)
        yield lambda frame: estimator.regions(_whole(frame))
    else:
        estimator, entry = open_estimator(model), catalogue[model.detector]
        detector = open_detector(entry)
        with closing(
            open_runtime(entry.fetch(), precision="fp32", pixels=entry.input, outputs=detector.outputs)
        ) as one:
            runner = CpuCropRunner(one, entry.input)
            yield lambda frame: estimator.regions(_people(frame, detector, runner, entry.input))


def _people(frame: Frame, detector: Detector, runner: CpuCropRunner, pixels: PixelInput) -> Detections:
    height, width = frame.shape[:2]
    regions = [align(region, width, height, pixels) for region in detector.regions(width, height)]
    parts = [detector.decode(runner([frame], [region]).outputs, [region])[0] for region in regions]
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
