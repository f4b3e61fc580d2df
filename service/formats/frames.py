"""Writing the poses of a video to one JSON, NDJSON or CSV file, frame by frame."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from engines.poses import Poses
from service.formats.posewire import people_list
from service.formats.table import HEADER, keypoint_lines

POSES_SUFFIXES = (".json", ".csv", ".ndjson")


class FramesFile:
    """A file of poses that is written frame by frame. A context manager; the file is complete when it exits without an
    error.

    JSON: one object with the keys of `about` and `frames`, a list with one line per frame: its number `frame`, its
    `time` in seconds and its `people` (see `people_list`). CSV: as `csv_table`, with the columns frame and time instead
    of image; a frame without people has no rows. NDJSON: the lines of `frames` alone, each readable at once.
    """

    def __init__(self, path: Path, suffix: str, about: Mapping[str, object]) -> None:
        """suffix: one of POSES_SUFFIXES. Raises OSError if the file cannot be written."""
        self._json, self._csv = suffix.lower() == ".json", suffix.lower() == ".csv"
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._separator = "\n"
        self._table = csv.writer(self._file, lineterminator="\n")
        if self._json:
            head = orjson.dumps(dict(about)).decode()
            self._file.write(f'{head[:-1]}{"," if about else ""}"frames":[')
        elif self._csv:
            self._table.writerow(("frame", "time", *HEADER[1:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(OSError):  # the first error is more informative
                self._file.close()
            return
        if self._json:
            self._file.write("\n]}\n")
        self._file.close()

    def write(
        self,
        number: int,
        seconds: float,
        poses: Poses,
        people: Sequence[Mapping[str, object]] = (),
        frame: Mapping[str, object] | None = None,
    ) -> None:
        """Append a frame. Times have 6 decimals. people, frame: further members of each person and of the frame, which
        CSV has not.
        """
        if self._csv:
            self._table.writerows((number, f"{seconds:.6f}", *row) for row in keypoint_lines(poses))
            return
        listed = people_list(poses)
        for person, members in zip(listed, people, strict=False):
            person |= members
        document = {"frame": number, "time": round(seconds, 6), "people": listed, **(frame or {})}
        line = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        if self._json:
            self._file.write(self._separator + line)
            self._separator = ",\n"
        else:
            self._file.write(f"{line}\n")
            self._file.flush()
