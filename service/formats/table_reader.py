"""Reading the CSV that `table` and `frames` write: one row per keypoint, of images or of a video's frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from engines.files import read_small, shown, without_mark
from engines.skeletons import SKELETONS, Skeleton
from service.formats.errors import FormatError
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather
from service.formats.table import HEADER

_VIDEO_HEADER = ("frame", "time", *HEADER[1:])
_LARGEST_FILE = 2 << 30
_LARGEST = 2.0**53
"""Up to here a float holds every whole number, ids among them."""

Row = tuple[int, dict[str, str]]
"""The number of a line, and its cells by column."""


def read_table(path: Path) -> PoseSequence:
    """The people of a CSV file with the columns of HEADER, or with frame and time in the place of the image.

    Boxes, which the file has not, are drawn around the keypoints; images without people are not in it. The skeleton is
    the one that has the file's keypoints. Raises FormatError.
    """
    name = shown(path)
    try:
        text = without_mark(read_small(path, _LARGEST_FILE)).decode()
    except OSError as error:
        raise FormatError(f"{name}: cannot be read as CSV: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: cannot be read as CSV: it is not UTF-8 from byte {error.start} on") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = tuple(reader.fieldnames or ())
        if columns not in (HEADER, _VIDEO_HEADER):
            given = shown(",".join(columns)[:200].encode("utf-8", "replace"))
            raise FormatError(f"{name}: must start with the line {','.join(HEADER)}, not {given}")
        rows: list[Row] = []
        for row in reader:
            if len(row) != len(columns) or None in row.values():
                raise FormatError(f"{name}, line {reader.line_num}: must have {len(columns)} cells")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise FormatError(f"{name}: cannot be read as CSV from line {reader.line_num} on") from error
    image = columns[0]
    people = [list(lines) for _, lines in groupby(rows, key=lambda row: (row[1][image], row[1]["person"]))]
    skeleton = _skeleton(path, people[0]) if people else next(iter(SKELETONS.values()))
    seen: set[tuple[str, str]] = set()
    for lines in people:
        who = (lines[0][1][image], lines[0][1]["person"])
        if who in seen:
            raise FormatError(f"{name}, line {lines[0][0]}: person {who[1]!r} of {who[0]!r} was there before")
        seen.add(who)
    groups = [list(group) for _, group in groupby(people, key=lambda lines: lines[0][1][image])]
    if len(groups) != len({who[0] for who in seen}):
        raise FormatError(f"{name}: the rows of an image, or of a frame, must follow one another")
    frames = (_frame(path, group, skeleton) for group in groups)
    return PoseSequence(path.stem, skeleton, tuple(frames))


def _skeleton(path: Path, lines: list[Row]) -> Skeleton:
    names = tuple(row["keypoint"] for _, row in lines)
    for skeleton in SKELETONS.values():
        if names == skeleton.keypoints:
            return skeleton
    raise FormatError(
        f"{shown(path)}, line {lines[0][0]}: the keypoints of this person are those of none of the skeletons "
        f"{', '.join(SKELETONS)}: {' '.join(map(str, names))}"
    )


def _frame(path: Path, people: list[list[Row]], skeleton: Skeleton) -> PoseFrame:
    line, first = people[0][0]
    poses = gather(skeleton, [_person(path, lines, skeleton) for lines in people])
    if "image" in first:
        return PoseFrame(first["image"], poses)
    (time,) = _numbers(path, line, (first["time"],))
    return PoseFrame(first["frame"], poses, _whole(path, line, first["frame"]), float(time))


def _person(path: Path, lines: list[Row], skeleton: Skeleton) -> SequencePerson:
    line, first = lines[0]
    names = tuple(row["keypoint"] for _, row in lines)
    if names != skeleton.keypoints:
        raise FormatError(
            f"{shown(path)}, line {line}: person {first['person']} must have the {len(skeleton)} keypoints of "
            f"{skeleton.name} in their order, as the first person of the file does"
        )
    cells = [tuple(_numbers(path, at, (row["x"], row["y"], row["keypoint_score"]))) for at, row in lines]
    rows = np.array(cells, np.float32)
    (score,) = _numbers(path, line, (first["score"],))
    identity = None
    if first["id"]:
        identity = _whole(path, line, first["id"])
    return SequencePerson(rows[:, :2], rows[:, 2].clip(0), score=score, identity=identity)


def _whole(path: Path, line: int, cell: str) -> int:
    (number,) = _numbers(path, line, (cell,))
    if not number.is_integer():
        raise FormatError(f"{shown(path)}, line {line}: must have a whole number where it has {cell!r}")
    return int(number)


def _numbers(path: Path, line: int, cells: Iterable[str | None]) -> Iterator[float]:
    for cell in cells:
        try:
            number = float(cell or "")
        except ValueError:
            raise FormatError(f"{shown(path)}, line {line}: must have a number where it has {cell!r}") from None
        if not abs(number) < _LARGEST:
            raise FormatError(f"{shown(path)}, line {line}: must have numbers below {_LARGEST:g}, not {cell!r}")
        yield number
