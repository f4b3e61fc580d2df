"""What `posewire image` and `posewire bench` do: files through the same pipelines that serve HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from engines.catalogue import Catalogue
from service.config import Settings
from service.formats.coco import coco_results
from service.formats.openpose import openpose_document
from service.formats.people import people_list
from service.formats.table import csv_table
from service.imaging.encode import encode
from service.imaging.errors import ImageError
from service.imaging.overlay import draw
from service.pipelines import Estimate
from service.serving import open_serving
from service.stages import Ask

_AT_ONCE = 16
"""Images under way at once: enough to fill every batch, few enough to hold in memory."""


@dataclass(frozen=True, slots=True)
class Still:
    """An image file with its people, or with the problem that it had."""

    path: Path
    estimate: Estimate | None
    problem: str = ""

    @property
    def found(self) -> Estimate:
        """The estimate of a still without a problem. Raises ValueError for any other."""
        if self.estimate is None:
            raise ValueError(f"{self.path} has no estimate: {self.problem}")
        return self.estimate


async def estimate_files(
    paths: Sequence[Path],
    catalogue: Catalogue,
    model: str,
    *,
    advance: Callable[[], None],
    min_score: float,
    max_people: int,
    draw: bool,
) -> list[Still]:
    """Everybody in every file, in order, batched over the files. advance: called as each is done."""
    serving = open_serving(catalogue, [model], Settings())
    await serving.start()
    room = asyncio.Semaphore(_AT_ONCE)
    ask = Ask(min_score=min_score, max_people=max_people, admitted=True)

    async def one(path: Path) -> Still:
        async with room:
            try:
                data = await asyncio.to_thread(path.read_bytes)
                still = Still(path, await serving.default.pipeline.image(data, ask, full_size=draw))
            except (ImageError, OSError) as error:
                still = Still(path, None, str(error))
            advance()
            return still

    try:
        return list(await asyncio.gather(*(one(path) for path in paths)))
    finally:
        await serving.close(drain_seconds=1.0)


def render_to(still: Still, target: Path, *, alone: bool) -> Path:
    """Draw the people on the picture; `target` is its file, or a folder where it keeps its name."""
    if not (alone and target.suffix):
        target.mkdir(parents=True, exist_ok=True)
        target = target / f"{still.path.stem}.jpg"
    media_type = "image/png" if target.suffix.lower() == ".png" else "image/jpeg"
    picture = draw(still.found.image.pixels, still.found.poses)
    target.write_bytes(encode(picture, media_type))
    return target


def write_results(stills: Sequence[Still], style: str) -> str:
    """The results as text. style: json, coco, openpose (an object, or a list of them for several) or csv."""
    if style == "csv":
        return csv_table([(str(still.path), still.found.poses) for still in stills])
    documents = [_document(still, number, style) for number, still in enumerate(stills)]
    if style == "coco":
        whole: object = [person for document in documents for person in document]  # type: ignore[attr-defined]
    else:
        whole = documents[0] if len(documents) == 1 else documents
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(whole, option=options).decode()


def _document(still: Still, number: int, style: str) -> object:
    poses = still.found.poses
    if style == "coco":
        name = still.path.stem
        return coco_results(poses, image_id=int(name) if name.isdigit() else number)
    if style == "openpose":
        return openpose_document(poses)
    return image_document(str(still.path), still.found)


def image_document(name: str, found: Estimate) -> dict[str, object]:
    """The people of an image as Posewire's own JSON, for orjson with OPT_SERIALIZE_NUMPY."""
    return {
        "image": name,
        "width": found.width,
        "height": found.height,
        "skeleton": found.poses.skeleton.name,
        "people": people_list(found.poses),
    }


async def measure(path: Path, catalogue: Catalogue, model: str, *, seconds: float, concurrency: int) -> str:
    """A line that says how fast this machine estimates the image at `path`, `concurrency` at once."""
    data = await asyncio.to_thread(path.read_bytes)
    serving = open_serving(catalogue, [model], Settings())
    await serving.start()
    took: list[float] = []
    people = 0

    async def client(number: int) -> None:
        nonlocal people
        ask = Ask(client=str(number), admitted=True)
        while time.perf_counter() < stop:
            started = time.perf_counter()
            people = len((await serving.default.pipeline.image(data, ask)).poses)
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
