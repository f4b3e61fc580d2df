"""Writing results: of a shard, and of all shards together. They do not depend on interruptions of the batch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import orjson

from engines.files import published
from engines.poses import Poses
from service.formats.coco import coco_results
from service.formats.frames import FramesFile
from service.formats.table import HEADER, keypoint_lines
from service.inference.pipeline import Estimate
from service.offline.bulk.listing import NOWHERE, SourceFile
from service.offline.bulk.shards import Failure, Shard, Style, digest_of
from service.offline.images import image_document

FAILED = "failed.jsonl"
SUMS = "SHA256SUMS"
IMAGE_IDS = "image_ids.csv"
_ALL_IMAGES = {"json": "images.jsonl", "coco": "images.json", "csv": "images.csv"}


def image_lines(entry: SourceFile, estimate: Estimate, style: Style) -> str:
    """The lines of one image. json: one object. coco: one result per person. csv: one row per keypoint."""
    if style == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((entry.name, *row) for row in keypoint_lines(estimate.poses))
        return text.getvalue()
    if style == "coco":
        return "".join(_line(person) for person in coco_results(estimate.poses, entry.image_id))
    return _line(image_document(entry.name, estimate.width, estimate.height, estimate.poses))


@contextmanager
def open_poses(path: Path, style: Style, about: dict[str, object]) -> Iterator[Callable[[int, float, Poses], None]]:
    """Open a file of poses. Yields a function that appends a frame, as `FramesFile.write`.

    json, csv: as `posewire video --poses`. coco: results with the frame number as image_id.
    """
    if style != "coco":
        with FramesFile(path, f".{style}", about) as frames:
            yield frames.write
        return
    with path.open("w", encoding="utf-8", newline="\n") as file, _json_list(file) as add:

        def write(number: int, _seconds: float, poses: Poses) -> None:
            for person in coco_results(poses, number):
                add(_line(person))

        yield write


@contextmanager
def _json_list(file: TextIO) -> Iterator[Callable[[str], object]]:
    """Write a JSON list with one item per line. Yields a function that appends an item."""
    separator = "[\n"

    def add(line: str) -> None:
        nonlocal separator
        file.write(separator + line.rstrip("\n"))
        separator = ",\n"

    yield add
    file.write("\n]\n" if separator == ",\n" else "[]\n")


def merge(folder: Path, shards: Sequence[Shard], style: Style, failures: Iterable[Failure]) -> None:
    """Write the results of all images to one file, the failed files to another, and the digests of all results.

    coco: image_ids.csv maps image ids to names.
    """
    results = [shard.result(folder, style) for shard in shards if shard.video]
    images = [shard for shard in shards if not shard.video]
    if images:
        results.append(folder / _ALL_IMAGES[style])
        with published(results[-1]) as part, part.open("w", encoding="utf-8", newline="\n") as whole:
            _join((shard.result(folder, style) for shard in images), style, whole)
    if images and style == "coco":
        results.append(folder / IMAGE_IDS)
        with published(results[-1]) as part, part.open("w", encoding="utf-8", newline="\n") as table:
            rows = ((entry.image_id, entry.name) for shard in images for entry in shard.entries if entry.at != NOWHERE)
            csv.writer(table, lineterminator="\n").writerows([("image_id", "image"), *rows])
    results.append(folder / FAILED)
    with published(results[-1]) as part:
        lines = "".join(json.dumps(asdict(failure), ensure_ascii=False) + "\n" for failure in failures)
        part.write_text(lines, "utf-8", "backslashreplace")
    with published(folder / SUMS) as part:
        there = sorted(path.relative_to(folder).as_posix() for path in results if path.exists())
        part.write_text("".join(f"{digest_of(folder / name)}  {name}\n" for name in there), "utf-8")


def _join(parts: Iterable[Path], style: Style, whole: TextIO) -> None:
    if style == "csv":
        csv.writer(whole, lineterminator="\n").writerow(HEADER)
    with _json_list(whole) if style == "coco" else nullcontext(whole.write) as add:
        for path in parts:
            with path.open(encoding="utf-8", newline="\n") as lines:
                for line in lines:
                    add(line)


def _line(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE).decode()
