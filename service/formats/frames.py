"""The poses of a video's frames as one file, written frame by frame: JSON or CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from engines.poses import Poses
from service.formats.people import people_list
from service.formats.table import HEADER, keypoint_lines

POSES_SUFFIXES = (".json", ".csv")


class FramesFile:
    """A file that grows by a frame at a time. A context manager; complete once it is left without an error.

    JSON: one object, the keys of `about` and then `frames`, a list with a line per frame: its number `frame`, its
    `time` in seconds and its `people` (as `people_list` writes them). CSV: as `csv_table`, with frame and time in the
    place of the image; a frame without people has no rows.
    """

    def __init__(self, path: Path, suffix: str, about: Mapping[str, object]) -> None:
        """suffix: .json or .csv. Raises OSError where the file cannot be written."""
        self._json = suffix.lower() == ".json"
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._separator = "\n"
        self._table = csv.writer(self._file, lineterminator="\n")
        if self._json:
            head = orjson.dumps(dict(about)).decode()
            self._file.write(f'{head[:-1]}{"," if about else ""}"frames":[')
        else:
            self._table.writerow(("frame", "time", *HEADER[1:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(OSError):  # the first error says more
                self._file.close()
            return
        if self._json:
            self._file.write("\n]}\n")
        self._file.close()

    def write(self, number: int, seconds: float, poses: Poses) -> None:
        """Add a frame. Times have 6 decimals."""
        if self._json:
            line = {"frame": number, "time": round(seconds, 6), "people": people_list(poses)}
            self._file.write(self._separator + orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY).decode())
            self._separator = ",\n"
        else:
            self._table.writerows((number, f"{seconds:.6f}", *row) for row in keypoint_lines(poses))
