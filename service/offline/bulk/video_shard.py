"""Track the people in one video, with results that are the same to the last bit when an earlier run was interrupted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ormsgpack

from engines.files import published, shown
from service.batching import run_in_lockstep
from service.inference.model_registry import ServedModel
from service.media.media_file import VideoError
from service.media.video_reader import VideoFrame, VideoReader
from service.offline.bulk.errors import FailedError, unexpected
from service.offline.bulk.manifest import GROUP, BulkOptions
from service.offline.bulk.shards import Failure, Shard, Summary
from service.offline.bulk.writing import open_poses
from service.offline.journal import DamagedJournalError, Journal
from service.offline.resumable_tracking import ServedEstimator, VideoOptions, VideoTracker
from service.offline.video_outputs import video_document
from service.offline.video_records import DAMAGED, JournaledFrame, fingerprint, pack, unpack

_GROUP_BYTES = 256 << 20
"""Memory limit for the pixels of a group of frames."""


async def track(
    path: Path,
    shard: Shard,
    folder: Path,
    served: ServedModel,
    options: BulkOptions,
    step: Callable[[int, int], None],
) -> Summary:
    """Write the poses of the video at `path`, the entry of `shard`, to the folder of results.

    step: see `LockstepVideoTracker`. Raises VideoError, FailedError, JournalError and OSError.
    """
    frames, [entry] = 0, shard.entries
    with VideoReader(path) as video, published(shard.result(folder, options.style)) as part:
        size = max(1, min(GROUP, _GROUP_BYTES // (3 * video.info.width * video.info.height)))
        try:
            about: dict[str, object] = {"video": fingerprint(path), "group": size}
        except OSError as error:
            raise VideoError(f"{path} cannot be read: {error.strerror}") from error
        estimator = ServedEstimator(served)
        header = video_document(entry.name, video.info, estimator.model, estimator.skeleton)
        with (
            Journal(shard.file(folder, ".journal"), about) as journal,
            open_poses(part, options.style, header) as write,
        ):
            seek = VideoOptions(options.min_score, options.max_people)
            tracker = LockstepVideoTracker(video, estimator, seek, journal, size=size, step=step)
            async with aclosing(tracker.tracked()) as tracked:
                async for frame, poses in tracked:
                    write(frame.number, frame.seconds, poses)
                    frames += 1
    broken = (Failure(entry.name, "not-whole", video.problem),) if video.problem else ()
    return Summary(frames=frames, people=len(tracker.ids), failures=broken)


@dataclass(eq=False, kw_only=True)
class LockstepVideoTracker(VideoTracker):
    """Estimates groups of `size` frames in lockstep. One journal record per group, so that frames that are estimated
    again pass the networks in the same batches. Does not support `detect_every`.

    step: called with the number of frames done and the number expected, 0 if it is unknown.
    """

    size: int
    step: Callable[[int, int], None]

    async def _estimated(self) -> AsyncGenerator[tuple[VideoFrame, JournaledFrame], None]:
        frames = iter(self.video)
        while group := list(islice(frames, self.size)):
            self.step(group[0].number, self.video.info.frames or 0)
            for frame, estimate in zip(group, await self._estimates(group), strict=True):
                yield frame, estimate

    async def _estimates(self, group: Sequence[VideoFrame]) -> list[JournaledFrame]:
        """The estimates of a group, from the journal if an earlier run has made them."""
        record = self.journal.next()
        if record is not None:
            try:
                estimates = [unpack(one, self.estimator.skeleton) for one in ormsgpack.unpackb(record)]
            except (ValueError, TypeError) as error:
                raise DamagedJournalError(DAMAGED) from error
            if [estimate.pts for estimate in estimates] != [frame.pts for frame in group]:
                raise DamagedJournalError(f"{shown(self.journal.path)} does not fit the video; delete it to start anew")
            return estimates
        estimate = self.estimator.estimate
        outcomes = await run_in_lockstep([estimate(frame.pixels, self._inference_options) for frame in group])
        estimates = []
        for frame, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                if not isinstance(outcome, Exception):
                    raise outcome
                what = f"frame {frame.number}"
                raise FailedError(f"{what}: {unexpected(what, outcome)}") from outcome
            estimates.append(JournaledFrame(frame.pts, True, outcome))
        self.journal.append(ormsgpack.packb([pack(estimate) for estimate in estimates]))
        return estimates
