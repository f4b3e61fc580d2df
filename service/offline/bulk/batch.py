"""A whole batch, from its source to its results. The same call continues an interrupted batch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from engines.catalogue import Catalogue
from engines.files import shown
from service.offline.bulk.errors import BulkError
from service.offline.bulk.listing import LeftOut, list_source
from service.offline.bulk.manifest import BulkOptions, claimed, manifest
from service.offline.bulk.scheduler import BulkProgress, work
from service.offline.bulk.shards import Failure, Shard, Summary, cut_into_shards, digest_of
from service.offline.bulk.worker import BulkJob
from service.offline.bulk.worker_pool import BulkWorkerPool
from service.offline.bulk.writing import FAILED, merge


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of a batch. earlier: number of shards that an earlier run had done."""

    folder: Path
    images: int
    videos: int
    frames: int
    shards: int
    earlier: int
    left_out: LeftOut
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        parts = [f"{self.images} images, {self.videos} videos ({self.frames} frames)"]
        if self.left_out.files:
            parts.append(f"{self.left_out.files} other files left out")
        if self.left_out.folders:
            parts.append(f"{self.left_out.folders} folders that are links left out")
        if self.earlier:
            parts.append(f"{self.earlier} of {self.shards} shards were done by an earlier run")
        if self.failures:
            parts.append(
                f"{len(self.failures)} files failed, see {shown(self.folder / FAILED)}; --retry-failed tries them again"
            )
        return "; ".join(parts)


def do_batch(
    source: Path,
    folder: Path,
    catalogue: Catalogue,
    model: str,
    options: BulkOptions,
    *,
    open_pool: Callable[[BulkJob], BulkWorkerPool],
    say: Callable[[str], None],
    terminal: bool,
    retry_failed: bool = False,
) -> Done:
    """Find the people in all images and videos of `source` and write the results to `folder`.

    open_pool: starts the workers; called only if a shard is missing. say: shows text to the user. retry_failed: repeat
    shards with files that failed in an earlier run, for example because memory ran out. Raises BulkError.
    """
    listing = list_source(source, folder)
    if find_spec("av") is None and any(entry.video for entry in listing.entries):
        raise BulkError(f"{shown(source)} has videos, which need PyAV: pip install av")
    with claimed(folder, manifest(listing, catalogue, model, options)):
        shards = cut_into_shards(listing.entries, options.shard)
        for shard in shards if retry_failed else ():
            summary = Summary.read(shard.file(folder, ".done"))
            if summary is not None and summary.failures:
                shard.file(folder, ".done").unlink()
                shard.result(folder, options.style).unlink(missing_ok=True)  # a damaged video has a partial result
        missing = [shard for shard in shards if _summary(shard, folder, options) is None]
        if missing:
            progress = BulkProgress(folder, len(shards), len(shards) - len(missing), say, terminal)
            pool = open_pool(BulkJob(listing.kind, listing.root, Path(os.path.realpath(folder)), model, options))
            try:
                work(missing, pool, progress)
            finally:
                progress.end()
                pool.close()
        summaries = [_summary_of_done(shard, folder, options) for shard in shards]
        _sweep(folder)
        failures = tuple(failure for summary in summaries for failure in summary.failures)
        merge(folder, shards, options.style, failures)
    videos = sum(shard.video for shard in shards)
    images = len(listing.entries) - videos
    frames = sum(summary.frames for summary in summaries)
    return Done(folder, images, videos, frames, len(shards), len(shards) - len(missing), listing.left_out, failures)


def _summary(shard: Shard, folder: Path, options: BulkOptions) -> Summary | None:
    """The summary of a shard; None if the shard is not done, or its result has changed since."""
    summary = Summary.read(shard.file(folder, ".done"))
    if summary is None or digest_of(shard.result(folder, options.style)) != summary.sha256:
        return None
    return summary


def _summary_of_done(shard: Shard, folder: Path, options: BulkOptions) -> Summary:
    summary = _summary(shard, folder, options)
    if summary is None:
        raise BulkError(f"the results of {shard.name} in {shown(folder)} were changed or lost; run it again")
    return summary


def _sweep(folder: Path) -> None:
    """Remove incomplete files of killed processes. Called when no worker is running."""
    for pattern in ("*.part", "videos/*.part", "parts/*.part", "parts/*.at", "parts/*.scratch", "parts/*.journal"):
        for path in folder.glob(pattern):
            path.unlink()
