"""What `posewire image` and `posewire bench` do: files through the same pipelines that serve HTTP."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import orjson

from engines.catalogue.models import Catalogue
from engines.files import open_at_once, shown
from engines.poses import Poses
from service.batching import OverloadedError
from service.config import Settings
from service.formats.coco import coco_results, image_ids
from service.formats.openpose import openpose_document
from service.formats.people import people_list
from service.formats.table import csv_table
from service.inference.model_registry import image_limits, open_serving
from service.inference.stage import InferenceOptions
from service.media.errors import ImageError

_AT_ONCE, _DRAWN_AT_ONCE = 16, 4
"""Images under way at once: enough to fill every batch, few enough to hold in memory."""
_PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class ImageResult:
    """An image file with its people and its size in pixels, or with the problem that it had; without its pixels, as
    there may be thousands.
    """

    path: Path
    poses: Poses | None = None
    width: int = 0
    height: int = 0
    problem: str = ""

    @property
    def people(self) -> Poses:
        """The poses of a still without a problem. Raises ValueError for any other."""
        if self.poses is None:
            raise ValueError(f"{self.path} has no poses: {self.problem}")
        return self.poses


def drawings(files: Sequence[Path], target: Path) -> list[Path]:
    """The pictures to draw of `files`: `target` itself where it is a picture's name, else one for each in that folder.

    Raises ValueError, with a message for the user, where that cannot be or would destroy one of `files`.
    """
    if not target.suffix or target.is_dir():
        pictures = [target / f"{file.stem}.jpg" for file in files]
    elif len(files) > 1:
        raise ValueError("--render names one picture, but there are several images; name a folder")
    elif target.suffix.lower() not in _PICTURES:
        raise ValueError(
            f"cannot draw on {shown(target)}: the name must end in {', '.join(_PICTURES)}, or be a folder's"
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
) -> list[ImageResult]:
    """Everybody in every file, in order, batched over the files. advance: called as each is done.

    pictures: where to draw the people of each file; none to draw nothing.
    """
    settings = Settings()
    serving = open_serving(catalogue, [model], settings)
    await serving.start()
    room = asyncio.Semaphore(_DRAWN_AT_ONCE if pictures else _AT_ONCE)
    options = InferenceOptions(min_score=min_score, max_people=max_people, admitted=True)
    pipeline, most_bytes = serving.default.pipeline, image_limits(settings).max_bytes

    async def one(path: Path, picture: Path | None) -> ImageResult:
        async with room:
            try:
                data = await asyncio.to_thread(_read, path, most_bytes)
                found = await pipeline.image(data, options, whole=picture is not None)
                if picture is not None:
                    content, _ = await pipeline.draw(found, _media_type(picture), options)
                    await asyncio.to_thread(_write, picture, content)
                still = ImageResult(path, found.poses, found.width, found.height)
            except (ImageError, OverloadedError) as error:
                still = ImageResult(path, problem=str(error))
            except OSError as error:
                still = ImageResult(path, problem=f"{shown(error.filename or path)}: {error.strerror}")
            advance()
            return still

    try:
        return list(await asyncio.gather(*(one(*pair) for pair in zip_longest(paths, pictures))))
    finally:
        await serving.close(drain_seconds=1.0)


def _read(path: Path, most: int) -> bytes:
    """A file, or one byte more than `most` of a larger one, which then is refused."""
    with open_at_once(path) as file:
        return file.read(most + 1)


def _media_type(picture: Path) -> str:
    return "image/png" if picture.suffix.lower() == ".png" else "image/jpeg"


def _write(picture: Path, content: bytes) -> None:
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(content)


def write_results(stills: Sequence[ImageResult], style: str) -> str:
    """The results as text, without those of stills that had a problem. style: json, coco, openpose (an object, or a
    list of them for several) or csv.
    """
    if style == "csv":
        return csv_table([(shown(still.path), still.people) for still in stills if not still.problem])
    ids = image_ids([still.path.stem for still in stills], range(len(stills)))
    documents = [_document(still, n, style) for still, n in zip(stills, ids, strict=True) if not still.problem]
    if style == "coco":
        whole: object = [person for document in documents for person in document]  # type: ignore[attr-defined]
    else:
        whole = documents[0] if len(documents) == 1 else documents
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(whole, option=options).decode()


def _document(still: ImageResult, image_id: int, style: str) -> object:
    poses = still.people
    if style == "coco":
        return coco_results(poses, image_id)
    if style == "openpose":
        return openpose_document(poses)
    return image_document(shown(still.path), still.width, still.height, poses)


def image_document(name: str, width: int, height: int, poses: Poses) -> dict[str, object]:
    """The people of an image as Posewire's own JSON, for orjson with OPT_SERIALIZE_NUMPY."""
    return {
        "image": name,
        "width": width,
        "height": height,
        "skeleton": poses.skeleton.name,
        "people": people_list(poses),
    }


async def measure(path: Path, catalogue: Catalogue, model: str, *, seconds: float, concurrency: int) -> str:
    """A line that says how fast this machine estimates the image at `path`, `concurrency` at once.

    Raises ImageError for what is none.
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
