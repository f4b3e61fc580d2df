"""The work of every contender per photo, with the server's own functions. Only the serving differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from engines.catalogue import load
from engines.families import open_estimator
from engines.families.regions import PADDING
from engines.ops.affine import align, crop
from engines.poses import Detections, Frame, Poses, Region
from engines.runtimes import open_runtime
from service.formats.posewire import people_list
from service.media.decode import DecodedImage, ImageLimits, decode


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A decoded photo and its crop. pixels: the network's input, uint8 RGB."""

    image: DecodedImage
    people: Detections
    region: Region
    pixels: Frame


class Work:
    """JPEG in, JSON out, with an estimator that assumes one person in the whole frame; in steps that can be batched.

    catalogue: the file that describes `model`. Opens the network for the cores that this process may use.
    """

    def __init__(self, catalogue: Path, model: str) -> None:
        entry = load([catalogue])[model]
        self._model = model
        self._estimator = open_estimator(entry)
        self._pixels = self._estimator.pixels
        self._limits = ImageLimits()
        self.runtime = open_runtime(
            entry.fetch(),
            pixels=self._pixels,
            outputs=self._estimator.outputs,
            cache_dir=entry.cache / "compiled",
        )
        self._input = self.runtime.spec.inputs[0].name

    def prepare(self, data: bytes) -> Prepared:
        """Decode and crop."""
        pixels = self._pixels
        needs = int(pixels.width / PADDING), int(pixels.height / PADDING)
        image = decode(data, self._limits, needs=needs)
        height, width = image.pixels.shape[:2]
        people = Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))
        region = align(self._estimator.regions(people)[0], width, height, pixels)
        cropped = np.empty((pixels.height, pixels.width, 3), np.uint8)
        crop(image.pixels, region, pixels, cropped)
        return Prepared(image, people, region, cropped)

    def infer(self, photos: Sequence[Prepared]) -> list[Poses]:
        """Run the network on a batch and decode its heatmaps; one Poses per photo."""
        batch = photos[0].pixels[None] if len(photos) == 1 else np.stack([photo.pixels for photo in photos])
        outputs = self.runtime.run({self._input: batch})
        poses = self._estimator.decode(outputs, [photo.region for photo in photos])
        return [poses.select(slice(n, n + 1)) for n in range(len(photos))]

    def answer(self, photo: Prepared, poses: Poses) -> bytes:
        """Encode the answer as JSON."""
        image = photo.image
        poses = self._estimator.merge(poses, photo.people)
        if image.scale != 1:
            poses = poses.scaled(image.scale)
        document = {
            "width": image.width,
            "height": image.height,
            "model": self._model,
            "skeleton": poses.skeleton.name,
            "people": people_list(poses),
        }
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    def __call__(self, data: bytes) -> bytes:
        """Process one photo."""
        photo = self.prepare(data)
        return self.answer(photo, self.infer([photo])[0])
