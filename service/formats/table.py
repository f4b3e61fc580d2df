"""CSV in the long form: one row per keypoint, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from engines.poses import Poses
from service.formats.people import keypoint_rows

HEADER = ("image", "person", "id", "score", "keypoint", "x", "y", "keypoint_score")


def csv_table(images: Iterable[tuple[str, Poses]]) -> str:
    """The people of named images as CSV with a header line, one row per keypoint.

    person: counts from 0 within an image, best first. id: empty without tracking. Pixels have 2 decimals, scores 3.
    An image without people has no rows.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for image, poses in images:
        writer.writerows((image, *row) for row in keypoint_lines(poses))
    return text.getvalue()


def keypoint_lines(poses: Poses) -> Iterator[tuple[object, ...]]:
    """The rows of one image, as HEADER names them from `person` on."""
    rows = keypoint_rows(poses.keypoints, poses.keypoint_scores)
    ids = [""] * len(poses) if poses.ids is None else [str(number) for number in poses.ids]
    for person, (number, score) in enumerate(zip(ids, poses.scores, strict=True)):
        for name, (x, y, keypoint_score) in zip(poses.skeleton.keypoints, rows[person], strict=True):
            yield person, number, f"{score:.3f}", name, f"{x:.2f}", f"{y:.2f}", f"{keypoint_score:.3f}"
