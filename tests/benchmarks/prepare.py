"""From a 640 x 480 JPEG to a normalised 256 x 192 input: python -m tests.benchmarks prepare [--json FILE]

Processor time a picture, medians, the usual way (OpenCV and numpy) alternating with ours. `half size` is what a
pipeline gets that needs no more than 320 x 240 pixels of the frame. Normalisation happens inside the compiled graph, so
it is measured as a graph that does nothing else, each time a batch of 16 is full; a lookup table is there to compare.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.preprocess import PrePostProcessor
from PIL import Image

from engines.inputs import PixelInput
from engines.ops.affine import align, crop
from engines.poses import Frame, Region
from service.media.decode import ImageLimits, decode
from tests.benchmarks.report import Row, main
from tests.pictures import astronaut, encoded

_ROUNDS = 30
_BATCH = 16
_PIXELS = PixelInput(256, 192, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
_PERSON = Region(320.4, 240.3, 345.2, 460.3)
"""A region of nearly the whole height of the frame, with the network's aspect ratio."""


class Way(NamedTuple):
    """Three consecutive steps. crop: into a slot of the batch. normalise: `batch` pictures."""

    decode: Callable[[], Any]
    crop: Callable[[Any, int], Any]
    normalise: Callable[[Any], Any]
    batch: int = 1

    def times(self) -> list[float]:
        """Measure the processor time of each step in milliseconds per picture of _BATCH, over all threads."""
        spent = [0.0, 0.0, 0.0]
        for place in range(_BATCH):
            marks = [time.process_time()]
            image = self.decode()
            marks.append(time.process_time())
            pictures = self.crop(image, place % self.batch)
            marks.append(time.process_time())
            if (place + 1) % self.batch == 0:
                self.normalise(pictures)
            marks.append(time.process_time())
            spent = [sum(both) for both in zip(spent, np.diff(marks), strict=True)]
        return [1e3 * seconds / _BATCH for seconds in spent]


def photo() -> bytes:
    """The astronaut in the middle of a 640 x 480 JPEG."""
    frame = Image.new("RGB", (640, 480))
    portrait = astronaut()
    for x in (-400, 560, 80):  # the middle one last, over the others, so that no part is empty
        frame.paste(portrait.resize((480, 480), Image.Resampling.LANCZOS), (x, 0))
    return encoded(frame, quality=90)


def usual(data: bytes) -> Way:
    """OpenCV decodes and warps, numpy normalises."""
    to_input = _PERSON.to_input(_PIXELS.width, _PIXELS.height)
    mean, std = np.array(_PIXELS.mean, np.float32), np.array(_PIXELS.std, np.float32)

    def read() -> Any:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def cut(frame: Any, _: int) -> Any:
        return cv2.warpAffine(frame, to_input, (_PIXELS.width, _PIXELS.height), flags=cv2.INTER_LINEAR)

    def normalise(picture: Any) -> Any:
        return np.ascontiguousarray(((picture.astype(np.float32) - mean) / std).transpose(2, 0, 1))[None]

    return Way(read, cut, normalise)


def ours(
    data: bytes, needs: tuple[int, int], normalise: Callable[[Frame], NDArray[np.float32]], count: int = _BATCH
) -> Way:
    """The server's way: decode at the smallest sufficient size, crop into the batch, normalise in the graph."""
    batch = np.zeros((count, _PIXELS.height, _PIXELS.width, 3), np.uint8)
    limits = ImageLimits()

    def cut(image: Any, place: int) -> Any:
        k = image.scale
        region = Region(_PERSON.center_x / k, _PERSON.center_y / k, _PERSON.width / k, _PERSON.height / k)
        height, width, _ = image.pixels.shape
        crop(image.pixels, align(region, width, height, _PIXELS), _PIXELS, batch[place])
        return batch

    return Way(lambda: decode(data, limits, needs=needs), cut, normalise, count)


def graph() -> Callable[[Frame], NDArray[np.float32]]:
    """A compiled graph that only normalises, as the runtime adds it to networks."""
    pixels = ops.parameter([_BATCH, 3, _PIXELS.height, _PIXELS.width], np.float32, name="pixels")
    steps = PrePostProcessor(ov.Model([ops.result(pixels)], [pixels]))
    steps.input(0).tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input(0).model().set_layout(ov.Layout("NCHW"))
    to_float = steps.input(0).preprocess().convert_element_type(ov.Type.f32)
    to_float.mean(list(_PIXELS.mean)).scale(list(_PIXELS.std))
    request = ov.Core().compile_model(steps.build(), "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request()

    def normalise(batch: Frame) -> NDArray[np.float32]:
        request.infer([ov.Tensor(batch, shared_memory=True)], share_outputs=True)
        result: NDArray[np.float32] = request.get_output_tensor().data
        return result

    return normalise


def lookup() -> Callable[[Frame], NDArray[np.float32]]:
    """A table of 256 floats for each channel."""
    levels = np.arange(256, dtype=np.float32)
    tables = [(levels - mean) / std for mean, std in zip(_PIXELS.mean, _PIXELS.std, strict=True)]
    out = np.empty((1, 3, _PIXELS.height, _PIXELS.width), np.float32)

    def normalise(batch: Frame) -> NDArray[np.float32]:
        for channel, levels in enumerate(tables):
            np.take(levels, batch[0, :, :, channel], out=out[0, channel], mode="clip")
        return out

    return normalise


def run() -> list[Row]:
    """A row per implementation, in milliseconds."""
    cv2.setNumThreads(1)
    data = photo()
    in_graph = graph()
    ways = {
        "OpenCV + numpy": usual(data),
        "ours, full size": ours(data, (640, 480), in_graph),
        "ours, half size": ours(data, (320, 240), in_graph),
        "ours, half size, table": ours(data, (320, 240), lookup(), 1),
    }
    times = np.array([[way.times() for way in ways.values()] for _ in range(_ROUNDS)])
    totals = np.median(times.sum(axis=2), axis=0)
    return [
        {
            "way": way,
            **{step: f"{ms:.3f}" for step, ms in zip(("decode", "crop", "normalise"), parts, strict=True)},
            "total ms": f"{total:.3f}",
            "ratio": f"{total / totals[0]:.2f}",
        }
        for way, parts, total in zip(ways, np.median(times, axis=0), totals, strict=True)
    ]


if __name__ == "__main__":
    main(run)
