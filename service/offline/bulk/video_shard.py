"""Everybody in one video, with identities; the same to the last bit whether or not an earlier run began with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ormsgpack

from engines.files import shown
from service.batching import run_in_lockstep
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.media.video import VideoError, VideoFrame, VideoReader
from service.offline.bulk.errors import FailedError, unexpected
from service.offline.bulk.manifest import GROUP
from service.offline.bulk.shards import Style
from service.offline.bulk.writing import open_poses
from service.offline.journal import DamagedJournalError, Journal
from service.offline.video_frames import Seek, tracked_ask
from service.offline.video_journal import DAMAGED, JournaledFrame, fingerprint, pack, unpack
from service.offline.videos import video_document
from service.tracking import PoseTracker

_GROUP_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Tracked:
    """What became of a video. people: identities. problem: of the file, where it is not whole."""

    frames: int
    people: int
    problem: str


async def track_video(
    path: Path,
    name: str,
    served: ServedModel,
    seek: Seek,
    journal_at: Path,
    out: Path,
    style: Style,
    step: Callable[[int, int], None],
) -> Tracked:
    """Write the poses of the video at `path`, called `name`, to `out`.

    The journal keeps whole groups of frames, so that those that are seen again go through the networks as before.
    step: told how many frames are done, of about how many. Raises VideoError, FailedError, JournalError and OSError.
    """
    tracker = PoseTracker(served.skeleton)
    options = tracked_ask(seek, tracker)
    frames = 0
    people: set[int] = set()
    with VideoReader(path) as video:
        info = video.info
        size = max(1, min(GROUP, _GROUP_BYTES // (3 * info.width * info.height)))
        try:
            about: dict[str, object] = {"video": fingerprint(path), "group": size}
        except OSError as error:
            raise VideoError(f"{path} cannot be read: {error.strerror}") from error
        pictures = iter(video)
        with Journal(journal_at, about) as journal, open_poses(out, style, video_document(name, info, served)) as file:
            while group := list(islice(pictures, size)):
                step(frames, info.frames or 0)
                for picture, look in zip(group, await _looks(group, served, options, journal), strict=True):
                    poses = tracker.update(look.poses, picture.pixels, picture.seconds)
                    poses = poses.select(poses.scores >= seek.min_score)
                    file.write(picture.number, picture.seconds, poses)
                    people.update(() if poses.ids is None else poses.ids[poses.ids >= 0].tolist())
                frames += len(group)
        return Tracked(frames, len(people), video.problem)


async def _looks(
    group: Sequence[VideoFrame], served: ServedModel, options: InferenceOptions, journal: Journal
) -> list[JournaledFrame]:
    """What the networks see in a group of frames, or saw in it in an earlier run."""
    record = journal.next()
    if record is not None:
        looks = _unpacked(record, served)
        if [look.pts for look in looks] != [picture.pts for picture in group]:
            raise DamagedJournalError(f"{shown(journal.path)} does not fit the video; delete it to start anew")
        return looks
    found = await run_in_lockstep([served.pipeline.frame(picture.pixels, options) for picture in group])
    looks = []
    for picture, one in zip(group, found, strict=True):
        if isinstance(one, BaseException):
            if not isinstance(one, Exception):
                raise one
            raise FailedError(f"frame {picture.number}: {unexpected(f'frame {picture.number}', one)}") from one
        looks.append(JournaledFrame(picture.pts, True, one[0]))
    journal.append(ormsgpack.packb([pack(look) for look in looks]))
    return looks


def _unpacked(record: bytes, served: ServedModel) -> list[JournaledFrame]:
    try:
        records = ormsgpack.unpackb(record)
    except ValueError as error:
        raise DamagedJournalError(DAMAGED) from error
    if not isinstance(records, list):
        raise DamagedJournalError(DAMAGED)
    return [unpack(look, served.skeleton) for look in records]
