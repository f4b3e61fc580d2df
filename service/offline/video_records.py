"""The journal records of a video (the poses estimated in each frame), and the fingerprint that identifies the video."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ormsgpack
from numpy.typing import NDArray

from engines.poses import Poses
from engines.skeletons import Skeleton
from service.offline.journal import DamagedJournalError

DAMAGED = "the journal of an earlier run is damaged; delete it to start anew"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class JournaledFrame:
    """The poses in the frame at `pts`. detected: True if the detector ran, False if only the estimator did."""

    pts: int
    detected: bool
    poses: Poses


def pack(frame: JournaledFrame) -> bytes:
    """Encode a frame without loss. Ids are left out, because the tracker assigns them again."""
    p = frame.poses
    arrays = [a.astype("<f4").tobytes() for a in (p.keypoints, p.keypoint_scores, p.boxes, p.scores)]
    metres = None if p.keypoints_3d is None else p.keypoints_3d.astype("<f4").tobytes()
    return ormsgpack.packb([frame.pts, frame.detected, *arrays, metres])


def unpack(record: bytes, skeleton: Skeleton) -> JournaledFrame:
    """Decode a packed frame. Raises DamagedJournalError for other bytes, and for poses of another skeleton."""
    k = len(skeleton)

    def array(data: bytes, *shape: int) -> NDArray[np.float32]:
        return np.frombuffer(data, "<f4").reshape(-1, *shape).astype(np.float32)

    try:
        pts, detected, points, point_scores, boxes, scores, metres = ormsgpack.unpackb(record)
        if type(pts) is not int or type(detected) is not bool:
            raise TypeError
        keypoints = array(points, k, 2)
        people = len(keypoints)
        poses = Poses(
            keypoints,
            array(point_scores, k).reshape(people, k),
            array(boxes, 4).reshape(people, 4),
            array(scores).reshape(people),
            skeleton,
            keypoints_3d=None if metres is None else array(metres, k, 3).reshape(people, k, 3),
        )
    except (ValueError, TypeError) as error:
        raise DamagedJournalError(DAMAGED) from error
    return JournaledFrame(pts, detected, poses)


def fingerprint(path: Path) -> str:
    """Hash a file's size and one MiB each at its beginning, middle and end. Reading a whole video takes too long."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for offset in (0, size // 2, max(0, size - _PIECE)):
            file.seek(offset)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
