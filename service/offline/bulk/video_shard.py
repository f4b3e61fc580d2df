"""Track the people in one video, with results that are the same to the last bit when an earlier run was interrupted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ormsgpack

from engines.files import shown
from service.batching import run_in_lockstep
from service.inference.model_registry import ServedModel
from service.media.video_reader import VideoError, VideoFrame, VideoReader
from service.offline.bulk.errors import FailedError, unexpected
from service.offline.bulk.manifest import GROUP
from service.offline.bulk.shards import Style
from service.offline.bulk.writing import open_poses
from service.offline.journal import DamagedJournalError, Journal
from service.offline.video_records import DAMAGED, JournaledFrame, fingerprint, pack, unpack
from service.offline.video_tracking import VideoOptions, VideoTracker
from service.offline.videos import video_document

_GROUP_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class TrackedVideo:
    """The outcome of a video. people: number of identities. problem: "" unless the file is damaged."""

    frames: int
    people: int
    problem: str


async def track_video(
    path: Path,
    name: str,
    served: ServedModel,
    options: VideoOptions,
    journal_at: Path,
    out: Path,
    style: Style,
    step: Callable[[int, int], None],
) -> TrackedVideo:
    """Write the poses of the video at `path` to `out`. name: the video's name in the results.

    step: called with the number of frames done and the number expected. Raises VideoError, FailedError, JournalError
    and OSError.
    """
    frames = 0
    people: set[int] = set()
    with VideoReader(path) as video:
        info = video.info
        size = max(1, min(GROUP, _GROUP_BYTES // (3 * info.width * info.height)))
        try:
            about: dict[str, object] = {"video": fingerprint(path), "group": size}
        except OSError as error:
            raise VideoError(f"{path} cannot be read: {error.strerror}") from error
        with Journal(journal_at, about) as journal, open_poses(out, style, video_document(name, info, served)) as file:
            tracker = LockstepVideoTracker(video, served, options, journal, size, step)
            async with aclosing(tracker.tracked()) as tracked:
                async for frame, poses in tracked:
                    file.write(frame.number, frame.seconds, poses)
                    people.update(() if poses.ids is None else poses.ids[poses.ids >= 0].tolist())
                    frames += 1
        return TrackedVideo(frames, len(people), video.problem)


class LockstepVideoTracker(VideoTracker):
    """Estimates groups of `size` frames in lockstep. One journal record per group, so that frames that are estimated
    again pass the networks in the same batches. Does not support `detect_every`.
    """

    def __init__(
        self,
        video: VideoReader,
        served: ServedModel,
        options: VideoOptions,
        journal: Journal,
        size: int,
        step: Callable[[int, int], None],
    ) -> None:
        super().__init__(video, served, options, journal, pool=None)
        self._size = size
        self._step = step

    async def _estimated(self) -> AsyncGenerator[tuple[VideoFrame, JournaledFrame], None]:
        frames = iter(self._video)
        while group := list(islice(frames, self._size)):
            self._step(group[0].number, self._video.info.frames or 0)
            for frame, estimate in zip(group, await self._estimates(group), strict=True):
                yield frame, estimate

    async def _estimates(self, group: Sequence[VideoFrame]) -> list[JournaledFrame]:
        """The estimates of a group, from the journal if an earlier run has made them."""
        record = self._journal.next()
        if record is not None:
            estimates = self._unpacked(record)
            if [estimate.pts for estimate in estimates] != [frame.pts for frame in group]:
                raise DamagedJournalError(
                    f"{shown(self._journal.path)} does not fit the video; delete it to start anew"
                )
            return estimates
        pipeline = self._served.pipeline
        outcomes = await run_in_lockstep([pipeline.frame(frame.pixels, self._inference_options) for frame in group])
        estimates = []
        for frame, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, Exception):
                    raise outcome
                what = f"frame {frame.number}"
                raise FailedError(f"{what}: {unexpected(what, outcome)}") from outcome
            estimates.append(JournaledFrame(frame.pts, True, outcome[0]))
        self._journal.append(ormsgpack.packb([pack(estimate) for estimate in estimates]))
        return estimates

    def _unpacked(self, record: bytes) -> list[JournaledFrame]:
        try:
            packed = ormsgpack.unpackb(record)
        except ValueError as error:
            raise DamagedJournalError(DAMAGED) from error
        if not isinstance(packed, list):
            raise DamagedJournalError(DAMAGED)
        return [unpack(one, self._served.skeleton) for one in packed]
