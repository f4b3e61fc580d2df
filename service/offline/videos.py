"""The work of `posewire video` and of a server's video jobs: estimate, track, draw and write the frames of a video.

A journal beside the output keeps the poses that the networks estimated. After a crash, the same command reads these
poses from the journal. It decodes, tracks, draws and encodes all frames again from the beginning: that is cheap, and
the results do not depend on the point of interruption.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from engines.catalogue import Catalogue
from engines.files import published
from engines.poses import Frame, Poses
from service import __version__
from service.config import Settings
from service.inference.model_registry import open_serving
from service.media.faces import check_heads
from service.media.video_reader import VideoError, VideoFrame, VideoReader
from service.offline.identities import OfflineIdentities
from service.offline.journal import Journal
from service.offline.resumable_tracking import ConcurrentVideoTracker, FrameEstimator, ServedEstimator
from service.offline.video_outputs import VideoOutputs, reported
from service.offline.video_records import fingerprint
from service.offline.video_task import VideoTask

_BLURRED_PEOPLE = 50
"""So many people are looked for at least, to blur their faces."""
_NO_PIXELS: Frame = np.zeros((0, 0, 3), np.uint8)


@asynccontextmanager
async def own_networks(catalogue: Catalogue, model: str) -> AsyncIterator[FrameEstimator]:
    """Load a model for one video, and free it at the end of the context. Raises as `open_serving`."""
    serving = await asyncio.to_thread(open_serving, catalogue, [model], Settings())
    try:
        await serving.start()
        yield ServedEstimator(serving.default)
    finally:
        await serving.close(drain_seconds=1.0)


async def process_video(
    video: VideoReader,
    task: VideoTask,
    model: str,
    networks: AbstractAsyncContextManager[FrameEstimator],
    *,
    advance: Callable[[VideoFrame], None],
) -> tuple[str, str]:
    """Write the outputs of `task`. Files get their final names when they are complete.

    model: its name. networks: opened once the outputs can be written. advance: called with each frame of
    each pass that is done; its exceptions end the work.
    Returns the outcome as a line for the user, and what is damaged in the video, or "".
    Raises VideoError and JournalError if something cannot be read or written. The journal is kept in that case,
    and on cancellation.
    """
    async with AsyncExitStack() as stack:
        options = task.options
        if task.blur:
            options = replace(options, max_people=max(options.max_people, _BLURRED_PEOPLE))
        # The journal is identified by everything that the estimates depend on.
        about = {"video": fingerprint(task.source), "model": model, "version": __version__, **asdict(options)}
        journal = stack.enter_context(Journal(task.journal, about))
        outputs = stack.enter_context(ExitStack())
        out, poses, events = (_begin(outputs, path) for path in (task.out, task.poses, task.events))
        estimator = await stack.enter_async_context(networks)
        if task.blur:
            check_heads(estimator.skeleton)
        writer = VideoOutputs(outputs, task, video.info, estimator, out, poses, events)
        pool = outputs.enter_context(ThreadPoolExecutor(3, thread_name_prefix="posewire-video"))
        tracker = ConcurrentVideoTracker(
            video, estimator, options, journal, pool, weak=task.blur, pixel_bytes=task.pixel_bytes
        )
        joined: OfflineIdentities | None = None
        if task.offline_identities:
            with reported(task.journal.parent):
                joined = outputs.enter_context(OfflineIdentities(estimator.skeleton, task.journal.parent))
        first_pass = writer.write if joined is None else _keeping(joined, task.journal.parent)
        loop = asyncio.get_running_loop()
        done = 0
        writing = loop.create_future()
        writing.set_result(None)
        async with aclosing(tracker.tracked()) as tracked:
            async for frame, people in tracked:
                await writing  # frames are written in order, while later ones are decoded and estimated
                writing = loop.run_in_executor(pool, first_pass, frame, people)
                done += 1
                advance(frame)
        await writing
        ids = tracker.ids
        if joined is not None:
            await _write_joined(joined, task, writer, pool, advance)
            ids = joined.ids
        await loop.run_in_executor(pool, writer.finish)
        await asyncio.to_thread(outputs.close)
        journal.remove()
        outcome = [f"{done} frames, {len(ids)} people"]
        if resumed := min(journal.found, done):
            outcome.append(f"went on after {resumed} frames of an earlier run")
        if journal.other is not None:
            outcome.append("an earlier run had other options or another video, so this one began anew")
        return "; ".join([*outcome, *tracker.notes, *writer.notes]), video.problem


def _keeping(joined: OfflineIdentities, folder: Path) -> Callable[[VideoFrame, Poses], None]:
    def keep(frame: VideoFrame, people: Poses) -> None:
        with reported(folder):
            joined.add(frame, people)

    return keep


async def _write_joined(
    joined: OfflineIdentities,
    task: VideoTask,
    writer: VideoOutputs,
    pool: Executor,
    advance: Callable[[VideoFrame], None],
) -> None:
    """Write all frames with their final ids. If they are drawn, they are decoded again, because all their
    pixels do not fit into memory. Raises VideoError."""
    loop = asyncio.get_running_loop()

    def next_frame() -> tuple[VideoFrame, Poses] | None:
        with reported(task.journal.parent):
            record = next(records, None)
        if record is None:
            return None
        frame = (
            VideoFrame(record.number, _NO_PIXELS, record.pts, record.seconds) if again is None else next(again, None)
        )
        if frame is None or frame.pts != record.pts:
            raise VideoError(f"{task.source} changed while it was read")
        return frame, record.people

    with ExitStack() as stack:
        again = None
        if task.out is not None:
            again = iter(stack.enter_context(await loop.run_in_executor(pool, VideoReader, task.source)))
        records = joined.read()
        writing = loop.create_future()
        writing.set_result(None)
        while (complete := await loop.run_in_executor(pool, next_frame)) is not None:
            await writing
            writing = loop.run_in_executor(pool, writer.write, *complete)
            if task.passes > 1:
                advance(complete[0])
        await writing


def _begin(outputs: ExitStack, path: Path | None) -> Path | None:
    """Create the temporary file of an output, which `outputs` publishes. Only this process writes it."""
    if path is None:
        return None
    with reported(path):
        part = outputs.enter_context(published(path, unique=False))
        part.touch()
        return part
