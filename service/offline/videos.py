"""The work of `posewire video` and of a server's video jobs: estimate, track, draw and write the frames of a video.

A journal beside the output keeps the poses that the networks estimated. After a crash, the same command reads these
poses from the journal. It decodes, tracks, draws and encodes all frames again from the beginning: that is cheap, and
the results do not depend on the point of interruption.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from engines.catalogue import Catalogue
from engines.files import published, shown
from engines.poses import Doubles, Frame, Poses
from engines.skeletons import Skeleton
from service import __version__
from service.config import Settings
from service.formats.frames import POSES_SUFFIXES, FramesFile
from service.inference.model_registry import open_serving
from service.media.draw import DrawOptions, HeatMap, Trails, draw
from service.media.faces import FaceMemory, blur_circles, check_heads, head_circles
from service.media.video_reader import VideoError, VideoFrame, VideoInfo, VideoReader
from service.media.video_writer import VIDEO_SUFFIXES, VideoWriter
from service.offline.identities import OfflineIdentities
from service.offline.journal import Journal
from service.offline.resumable_tracking import (
    PIXEL_BYTES,
    ConcurrentVideoTracker,
    FrameEstimator,
    ServedEstimator,
    VideoOptions,
)
from service.offline.video_records import fingerprint
from service.tracking.smoothing import OneEuroConfig
from service.tracking.two_way_smoothing import TwoWaySmoother

_MOST_WAITING = 64
"""Frames that wait to be smoothed: a second of most videos."""
_BLUR_AROUND_S = 0.3
"""For how long before and after a person is found the place of the face is blurred, too."""
_BLURRED_PEOPLE = 50
"""So many people are looked for at least, to blur their faces."""
_NO_PIXELS: Frame = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class VideoTask:
    """The input, outputs and options of one run.

    out: the video to write, with skeletons drawn. poses: the poses file to write. At least one of the two is required.
    trails: length of the drawn trails in seconds. smoothing: of the drawn keypoints, None for none. smooth_poses: the
    poses file is smoothed, too. name: of the video, for the poses file and the user; the source's by default.
    skeleton: of the outputs; the model's own by default. pixel_bytes: memory limit for the pixels of the frames that
    are estimated at once, and for those of the frames that wait to be smoothed. look: how people are drawn.
    blur: blur all faces. heat_map: draw for how long people have stood where. offline_identities: ids
    are joined after the fact, when all frames have been tracked.
    """

    source: Path
    out: Path | None
    poses: Path | None
    options: VideoOptions
    trails: float = 0.0
    smoothing: OneEuroConfig | None = field(default_factory=OneEuroConfig)
    smooth_poses: bool = False
    name: str = ""
    skeleton: Skeleton | None = None
    pixel_bytes: int = PIXEL_BYTES
    look: DrawOptions = field(default_factory=DrawOptions)
    blur: bool = False
    heat_map: bool = False
    offline_identities: bool = False

    def problem(self) -> str:
        """A message for the user if the paths make no sense; "" otherwise."""
        if self.out is None and self.poses is None:
            return "there is nothing to write; name a video with --out, a file of poses with --poses, or both"
        if self.blur and self.out is None:
            return "--blur is for the video that is drawn; name it with --out"
        for path, suffixes in ((self.out, VIDEO_SUFFIXES), (self.poses, POSES_SUFFIXES)):
            if path is None:
                continue
            if path.suffix.lower() not in suffixes:
                return f"cannot write {path.name}: the name must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}"
            if path.exists() and path.samefile(self.source):
                return f"{path} is the video itself; write to another file"
        return ""

    @property
    def passes(self) -> int:
        """How often each frame advances the run: a second time if a video is drawn after all frames were tracked."""
        return 2 if self.offline_identities and self.out is not None else 1

    @property
    def journal(self) -> Path:
        """The path of the journal, which exists until the run is complete."""
        beside = self.out or self.poses
        if beside is None:
            raise ValueError(self.problem())
        return beside.with_name(beside.name + ".journal")


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
        out, poses = (_begin(outputs, path) for path in (task.out, task.poses))
        estimator = await stack.enter_async_context(networks)
        if task.blur:
            check_heads(estimator.skeleton)
        writer = _OutputWriter(outputs, task, video.info, estimator, out, poses)
        pool = outputs.enter_context(ThreadPoolExecutor(3, thread_name_prefix="posewire-video"))
        tracker = ConcurrentVideoTracker(
            video, estimator, options, journal, pool, weak=task.blur, pixel_bytes=task.pixel_bytes
        )
        joined: OfflineIdentities | None = None
        if task.offline_identities:
            with _writing(task.journal.parent):
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
        with _writing(folder):
            joined.add(frame, people)

    return keep


async def _write_joined(
    joined: OfflineIdentities, task: VideoTask, writer: _OutputWriter, pool: Executor, advance: Callable[[VideoFrame], None]
) -> None:
    """Write all frames with their final ids. If they are drawn, they are decoded again, because all their
    pixels do not fit into memory. Raises VideoError."""
    loop = asyncio.get_running_loop()

    def next_frame() -> tuple[VideoFrame, Poses] | None:
        with _writing(task.journal.parent):
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
    with _writing(path):
        part = outputs.enter_context(published(path, unique=False))
        part.touch()
        return part


def video_document(name: str, info: VideoInfo, model: str, skeleton: Skeleton) -> dict[str, object]:
    """The header of a poses file, which describes the video."""
    return {
        "video": name,
        "width": info.width,
        "height": info.height,
        "frame_rate": round(float(info.rate), 6),
        "model": model,
        "skeleton": skeleton.name,
        "keypoints": skeleton.keypoints,
    }


class _OutputWriter:
    """Writes the frames of one video to its outputs, in order.

    outputs: closes the outputs. out, poses: the paths to write to, without their final names.
    """

    def __init__(
        self,
        outputs: ExitStack,
        task: VideoTask,
        info: VideoInfo,
        estimator: FrameEstimator,
        out: Path | None,
        poses: Path | None,
    ) -> None:
        self._task = task
        self._skeleton = task.skeleton or estimator.skeleton
        self._smoother: TwoWaySmoother[VideoFrame] | None = None
        if task.smoothing is not None:
            self._smoother = TwoWaySmoother(task.smoothing, frames=_room(info, task.pixel_bytes))
        self._trails = Trails(task.trails) if task.trails > 0 else None
        self._heat = HeatMap(info.width, info.height) if task.heat_map else None
        self._faces = (
            FaceMemory[tuple[VideoFrame, Poses]](_BLUR_AROUND_S, _room(info, task.pixel_bytes)) if task.blur else None
        )
        self._video: VideoWriter | None = None
        self._poses: FramesFile | None = None
        if out is not None and task.out is not None:
            self._video = outputs.enter_context(VideoWriter(out, task.out.suffix, info, task.source))
        if poses is not None and task.poses is not None:
            outputs.enter_context(_writing(task.poses))
            about = video_document(task.name or shown(task.source.name), info, estimator.model, self._skeleton)
            self._poses = outputs.enter_context(FramesFile(poses, task.poses.suffix, about))

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the user about what the written video leaves out."""
        return () if self._video is None else tuple(self._video.notes)

    def write(self, frame: VideoFrame, people: Poses) -> None:
        """Add the next frame. To blur faces, `people` include weak ones. Frames that are smoothed, or whose faces are
        blurred, are written when enough later ones are known.
        """
        if self._faces is None:
            self._write(frame, people)
            return
        options = self._task.options
        wanted = people.select(people.scores >= options.min_score).select(slice(options.max_people))
        for complete, circles in self._faces.push((frame, wanted), head_circles(people), frame.seconds):
            self._write(*_blurred(*complete, circles))

    def _write(self, frame: VideoFrame, people: Poses) -> None:
        people = people.as_skeleton(self._skeleton)
        if not self._task.smooth_poses:
            self._write_poses(frame, people)
        if self._smoother is None:
            self._finish_frame(frame, people)
        elif self._video is not None or self._task.smooth_poses:
            for complete in self._smoother.push(frame, people, frame.seconds):
                self._finish_frame(*complete)

    def finish(self) -> None:
        """Write the frames that still wait, after the last one."""
        for complete, circles in self._faces.flush() if self._faces is not None else ():
            self._write(*_blurred(*complete, circles))
        for complete in self._smoother.flush() if self._smoother is not None else ():
            self._finish_frame(*complete)

    def _finish_frame(self, frame: VideoFrame, people: Poses) -> None:
        if self._task.smooth_poses:
            self._write_poses(frame, people)
        if self._video is not None:
            trails = self._trails.update(people, frame.seconds) if self._trails is not None else ()
            if self._heat is not None:
                self._heat.update(people, frame.seconds)
            drawn = draw(frame.pixels, people, **self._task.look, trails=trails, heat=self._heat)
            self._video.write(drawn, frame.pts)

    def _write_poses(self, frame: VideoFrame, people: Poses) -> None:
        if self._poses is not None and self._task.poses is not None:
            with _writing(self._task.poses):
                self._poses.write(frame.number, frame.seconds, people)


def _blurred(frame: VideoFrame, people: Poses, circles: Doubles) -> tuple[VideoFrame, Poses]:
    pixels = frame.pixels.copy()
    blur_circles(pixels, circles)
    return replace(frame, pixels=pixels), people


def _room(info: VideoInfo, pixel_bytes: int) -> int:
    """How many frames may wait to be smoothed."""
    return max(1, min(_MOST_WAITING, pixel_bytes // (3 * info.width * info.height)))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn OSError into VideoError with a message for the user."""
    try:
        yield
    except OSError as error:
        raise VideoError(f"cannot write {path}: {error.strerror or error}") from error
