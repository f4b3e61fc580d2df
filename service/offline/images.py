"""The work of `posewire image` and `posewire bench`: estimate the people in image files."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import orjson

from engines.catalogue import Catalogue
from engines.files import open_at_once, shown
from engines.poses import Poses
from service.batching import OverloadedError
from service.config import Settings
from service.formats.coco import coco_results, image_ids
from service.formats.openpose import openpose_document
from service.formats.posewire import people_list
from service.formats.table import csv_table
from service.inference.model_registry import image_limits, open_serving
from service.inference.stage import InferenceOptions
from service.media.draw import DrawOptions
from service.media.faces import BLURRED_SCORE, check_heads
from service.media.image_files import ImageError

_CONCURRENCY, _DRAWING_CONCURRENCY = 16, 4
"""Images processed at once: enough to fill every batch, few enough for memory. Drawing needs the whole pixels."""
_DRAWING_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class ImageResult:
    """The people in an image file and its size in pixels, or the problem with it. Pixels are not kept, because there
    may be thousands of files.
    """

    path: Path
    poses: Poses | None = None
    width: int = 0
    height: int = 0
    problem: str = ""


def drawings(files: Sequence[Path], target: Path) -> list[Path]:
    """The paths of the pictures to draw: `target` itself if it names a picture, otherwise one path per file in that
    folder.

    Raises ValueError with a message for the user if two pictures would have one path, or one would replace a file.
    """
    if not target.suffix or target.is_dir():
        pictures = [target / f"{file.stem}.jpg" for file in files]
    elif len(files) > 1:
        raise ValueError("--render names one picture, but there are several images; name a folder")
    elif target.suffix.lower() not in _DRAWING_SUFFIXES:
        raise ValueError(
            f"cannot draw on {shown(target)}: the name must end in {', '.join(_DRAWING_SUFFIXES)}, or be a folder's"
        )
    else:
        pictures = [target]
    read = {os.path.realpath(file) for file in files}
    for picture in pictures:
        if os.path.realpath(picture) in read:
            raise ValueError(f"{shown(picture)} is one of the images themselves; draw elsewhere")
    for picture, times in Counter(pictures).items():
        if times > 1:
            raise ValueError(f"{times} of the images would be drawn on {shown(picture)}; draw them one by one")
    return pictures


async def estimate_files(
    paths: Sequence[Path],
    catalogue: Catalogue,
    model: str,
    *,
    advance: Callable[[], None],
    min_score: float,
    max_people: int,
    pictures: Sequence[Path] = (),
    look: DrawOptions | None = None,
    blur: bool = False,
) -> list[ImageResult]:
    """Estimate the people in all files, batched across files. Results are in the order of `paths`.

    advance: called once per finished file. pictures: the path to draw each file's people to; empty to draw nothing.
    look: how to draw them. blur: blur the faces of all people who are found, also below `min_score`.
    Raises UnseenHeadsError if the model's keypoints do not show faces to blur.
    """
    settings = Settings()
    serving = open_serving(catalogue, [model], settings)
    if blur:
        check_heads(serving.default.skeleton)
    await serving.start()
    limiter = asyncio.Semaphore(_DRAWING_CONCURRENCY if pictures else _CONCURRENCY)
    options = InferenceOptions(
        min_score=min(min_score, BLURRED_SCORE) if blur else min_score,
        max_people=max(max_people, settings.max_people) if blur else max_people,
        admitted=True,
    )
    pipeline, most_bytes = serving.default.pipeline, image_limits(settings).max_bytes

    async def one(path: Path, picture: Path | None) -> ImageResult:
        async with limiter:
            try:
                data = await asyncio.to_thread(_read, path, most_bytes)
                estimate = await pipeline.image(data, options, whole=picture is not None)
                found = estimate.poses
                estimate = replace(estimate, poses=found.select(found.scores >= min_score).select(slice(max_people)))
                if picture is not None:
                    media_type = "image/png" if picture.suffix.lower() == ".png" else "image/jpeg"
                    content, _ = await pipeline.draw(
                        estimate, media_type, options, look=look, blurred=found if blur else None
                    )
                    picture.parent.mkdir(parents=True, exist_ok=True)
                    await asyncio.to_thread(picture.write_bytes, content)
                result = ImageResult(path, estimate.poses, estimate.width, estimate.height)
            except (ImageError, OverloadedError) as error:
                result = ImageResult(path, problem=str(error))
            except OSError as error:
                result = ImageResult(path, problem=f"{shown(error.filename or path)}: {error.strerror}")
            advance()
            return result

    try:
        return list(await asyncio.gather(*(one(*pair) for pair in zip_longest(paths, pictures))))
    finally:
        await serving.close(drain_seconds=1.0)


def _read(path: Path, most: int) -> bytes:
    """Read a file. Of a larger file, read `most` + 1 bytes, which the decoder refuses as too many."""
    with open_at_once(path) as file:
        return file.read(most + 1)


def write_results(results: Sequence[ImageResult], style: str) -> str:
    """The results as text, without images that had a problem.

    style: json, coco, openpose (one object, or a list for several images) or csv.
    """
    ids = image_ids([result.path.stem for result in results], range(len(results)))
    found = [(n, result, result.poses) for n, result in zip(ids, results, strict=True) if result.poses is not None]
    if style == "csv":
        return csv_table([(shown(result.path), poses) for _, result, poses in found])
    if style == "coco":
        whole: object = [person for n, _, poses in found for person in coco_results(poses, n)]
    else:
        if style == "openpose":
            documents: list[object] = [openpose_document(poses) for _, _, poses in found]
        else:
            documents = [image_document(shown(r.path), r.width, r.height, poses) for _, r, poses in found]
        whole = documents[0] if len(documents) == 1 else documents
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(whole, option=options).decode()


def image_document(name: str, width: int, height: int, poses: Poses) -> dict[str, object]:
    """The people in an image in Posewire's own JSON format, for orjson with OPT_SERIALIZE_NUMPY."""
    return {
        "image": name,
        "width": width,
        "height": height,
        "skeleton": poses.skeleton.name,
        "people": people_list(poses),
    }


async def measure(path: Path, catalogue: Catalogue, model: str, *, seconds: float, concurrency: int) -> str:
    """Measure how fast this machine processes the image at `path` with `concurrency` requests at once; one line.

    Raises ImageError if the file is not an image.
    """
    settings = Settings()
    data = await asyncio.to_thread(_read, path, image_limits(settings).max_bytes)
    serving = open_serving(catalogue, [model], settings)
    await serving.start()
    took: list[float] = []
    people = 0

    async def client(number: int) -> None:
        nonlocal people
        options = InferenceOptions(client=str(number), admitted=True)
        while time.perf_counter() < stop:
            started = time.perf_counter()
            people = len((await serving.default.pipeline.image(data, options)).poses)
            took.append(time.perf_counter() - started)

    started = time.perf_counter()
    stop = started + seconds
    try:
        await asyncio.gather(*(client(number) for number in range(concurrency)))
        rate = len(took) / (time.perf_counter() - started)
    finally:
        await serving.close(drain_seconds=1.0)
    p50, p99 = np.percentile(np.array(took) * 1e3, [50, 99])
    return f"{concurrency:3d} at once: {rate:7.1f} images/s, p50 {p50:.1f} ms, p99 {p99:.1f} ms, {people} people"
