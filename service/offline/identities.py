"""Final identities of a recorded video: tracked frames wait in a temporary file until all ids are known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import ormsgpack

from engines.poses import Poses
from engines.skeletons import Skeleton
from service.media.video_reader import VideoFrame
from service.offline.video_records import JournaledFrame, pack, unpack
from service.tracking.joining import TrackJoiner, rename

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class TrackedRecord:
    """A frame without its pixels, and its people with ids. See `VideoFrame`."""

    number: int
    pts: int
    seconds: float
    people: Poses


class OfflineIdentities:
    """Joins the ids of tracked frames. A context manager.

    folder: where the temporary file is, about as large as the journal; it vanishes with the process. In memory are only
    the ids of the last minutes. Raises OSError if the file cannot be written or read.
    """

    def __init__(self, skeleton: Skeleton, folder: Path) -> None:
        self._skeleton = skeleton
        self._file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._joiner = TrackJoiner(skeleton)
        self._frames = 0
        self.ids: set[int] = set()

    def __enter__(self) -> OfflineIdentities:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._frames

    def add(self, frame: VideoFrame, people: Poses) -> None:
        """Add the next tracked frame."""
        self._joiner.add(people, frame.pixels, frame.seconds)
        self._write(frame, people)

    def read(self) -> Iterator[TrackedRecord]:
        """Return all frames with their final ids, in order, after the last one was added. `ids` then has all people."""
        firsts = self._joiner.joined()
        self._file.seek(0)
        while head := self._file.read(_LENGTH_BYTES):
            number, seconds, ids, record = ormsgpack.unpackb(self._file.read(int.from_bytes(head, "little")))
            estimate = unpack(record, self._skeleton)
            tracked = replace(estimate.poses, ids=np.frombuffer(ids, "<i8").astype(np.int64))
            people = rename(tracked, firsts)
            if people.ids is not None:
                self.ids |= set(people.ids[people.ids >= 0].tolist())
            yield TrackedRecord(number, estimate.pts, seconds, people)

    def _write(self, frame: VideoFrame, people: Poses) -> None:
        ids = np.full(len(people), -1) if people.ids is None else people.ids
        packed = pack(JournaledFrame(frame.pts, False, people))
        record = ormsgpack.packb([frame.number, frame.seconds, ids.astype("<i8").tobytes(), packed])
        self._file.write(len(record).to_bytes(_LENGTH_BYTES, "little") + record)
        self._frames += 1
