"""Writing and reading CSV in the long form: one row per keypoint, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from engines.files import read_small, shown, without_mark
from engines.poses import Poses
from engines.skeletons import COCO_17, SKELETONS, Skeleton
from service.formats.parsing import FormatError, Skeletons, skeleton_of
from service.formats.people import keypoint_rows
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather

HEADER = ("image", "person", "id", "score", "keypoint", "x", "y", "keypoint_score")
_VIDEO_HEADER = ("frame", "time", *HEADER[1:])
_LARGEST_FILE = 2 << 30
_LARGEST = 2.0**53
"""Up to this limit, floats represent every integer, such as ids."""

Row = tuple[str, dict[str, str]]
"""A line's place in messages, and its cells by column."""


def csv_table(images: Iterable[tuple[str, Poses]]) -> str:
    """Write the people in named images as CSV with a header line and one row per keypoint.

    person: index in the image, from 0, best first. id: empty without tracking. Pixels have 2 decimals, scores 3.
    Images without people have no rows.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for image, poses in images:
        writer.writerows((image, *row) for row in keypoint_lines(poses))
    return text.getvalue()


def keypoint_lines(poses: Poses) -> Iterator[tuple[object, ...]]:
    """Yield the rows of one image, with the columns of HEADER from `person` on."""
    rows = keypoint_rows(poses.keypoints, poses.keypoint_scores)
    ids = [""] * len(poses) if poses.ids is None else [str(number) for number in poses.ids]
    for person, (number, score) in enumerate(zip(ids, poses.scores, strict=True)):
        for name, (x, y, keypoint_score) in zip(poses.skeleton.keypoints, rows[person], strict=True):
            yield person, number, f"{score:.3f}", name, f"{x:.2f}", f"{y:.2f}", f"{keypoint_score:.3f}"


def read_table(path: Path, skeletons: Skeletons = SKELETONS) -> PoseSequence:
    """Read a CSV file of `csv_table`, or of `FramesFile` with the columns frame and time instead of image.

    The file has no boxes, so they are computed from the keypoints. Images without people are missing. The skeleton is
    the one of `skeletons` with the file's keypoints. Raises FormatError.
    """
    name = shown(path)
    try:
        text = without_mark(read_small(path, _LARGEST_FILE)).decode()
    except OSError as error:
        raise FormatError(f"{name}: cannot be read as CSV: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: cannot be read as CSV: it is not UTF-8 from byte {error.start} on") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    images: dict[str, dict[str, list[Row]]] = {}
    last: tuple[str, str] | None = None
    try:
        columns = tuple(reader.fieldnames or ())
        if columns not in (HEADER, _VIDEO_HEADER):
            given = shown(",".join(columns)[:200].encode("utf-8", "replace"))
            raise FormatError(f"{name}: must start with the line {','.join(HEADER)}, not {given}")
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if len(row) != len(columns) or None in row.values():
                raise FormatError(f"{where}: must have {len(columns)} cells")
            image, person = key = row[columns[0]], row["person"]
            if key != last:
                if person in images.get(image, ()):
                    raise FormatError(f"{where}: person {person!r} of {image!r} was there before")
                if last is not None and image != last[0] and image in images:
                    raise FormatError(f"{name}: the rows of an image, or of a frame, must follow one another")
            images.setdefault(image, {}).setdefault(person, []).append((where, row))
            last = key
    except csv.Error as error:
        raise FormatError(f"{name}: cannot be read as CSV from line {reader.line_num} on") from error
    frames = [list(people.values()) for people in images.values()]
    skeleton = _skeleton(frames[0][0], skeletons) if frames else COCO_17
    return PoseSequence(path.stem, skeleton, tuple(_frame(people, skeleton) for people in frames))


def _skeleton(lines: list[Row], skeletons: Skeletons) -> Skeleton:
    names = tuple(row["keypoint"] for _, row in lines)
    where = lines[0][0]
    return skeleton_of(
        names, skeletons, lambda problem: FormatError(f"{where}: the keypoints of this person {problem}")
    )


def _frame(people: list[list[Row]], skeleton: Skeleton) -> PoseFrame:
    where, first = people[0][0]
    poses = gather(skeleton, [_person(lines, skeleton) for lines in people])
    if "image" in first:
        return PoseFrame(first["image"], poses)
    time = _number(where, first["time"])
    return PoseFrame(first["frame"], poses, _whole(where, first["frame"]), time)


def _person(lines: list[Row], skeleton: Skeleton) -> SequencePerson:
    where, first = lines[0]
    names = tuple(row["keypoint"] for _, row in lines)
    if names != skeleton.keypoints:
        raise FormatError(
            f"{where}: person {first['person']} must have the {len(skeleton)} keypoints of "
            f"{skeleton.name} in their order, as the first person of the file does"
        )
    rows = np.array([[_number(at, row[key]) for key in HEADER[-3:]] for at, row in lines], np.float32)
    score = _number(where, first["score"])
    identity = _whole(where, first["id"]) if first["id"] else None
    return SequencePerson(rows[:, :2], rows[:, 2].clip(0), score=score, identity=identity)


def _whole(where: str, cell: str) -> int:
    number = _number(where, cell)
    if not number.is_integer():
        raise FormatError(f"{where}: must have a whole number where it has {cell!r}")
    return int(number)


def _number(where: str, cell: str | None) -> float:
    try:
        number = float(cell or "")
    except ValueError:
        raise FormatError(f"{where}: must have a number where it has {cell!r}") from None
    if not abs(number) < _LARGEST:
        raise FormatError(f"{where}: must have numbers below {_LARGEST:g}, not {cell!r}")
    return number
