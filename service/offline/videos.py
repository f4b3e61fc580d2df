"""The work of `posewire video`: estimate, track, draw and write the frames of a video.

A journal beside the output keeps the poses that the networks estimated. After a crash, the same command reads these
poses from the journal. It decodes, tracks, draws and encodes all frames again from the beginning: that is cheap, and
the results do not depend on the point of interruption.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from engines.catalogue import Catalogue
from engines.files import shown
from engines.poses import Poses
from service import __version__
from service.config import Settings
from service.formats.frames import POSES_SUFFIXES, FramesFile
from service.inference.model_registry import ServedModel, open_serving
from service.media.draw import Trails, draw
from service.media.video_reader import VideoError, VideoFrame, VideoInfo, VideoReader
from service.media.video_writer import VIDEO_SUFFIXES, VideoWriter
from service.offline.journal import Journal
from service.offline.video_records import fingerprint
from service.offline.video_tracking import ConcurrentVideoTracker, VideoOptions
from service.tracking.smoothing import OneEuro


@dataclass(frozen=True, slots=True)
class VideoTask:
    """The input, outputs and options of one run.

    out: the video to write, with skeletons drawn. poses: the poses file to write. At least one of the two is required.
    trails: length of the drawn trails in seconds. smooth: smooth the drawn keypoints; the poses file is never smoothed.
    """

    source: Path
    out: Path | None
    poses: Path | None
    options: VideoOptions
    trails: float = 0.0
    smooth: bool = True

    def problem(self) -> str:
        """A message for the user if the paths make no sense; "" otherwise."""
        if self.out is None and self.poses is None:
            return "there is nothing to write; name a video with --out, a file of poses with --poses, or both"
        for path, suffixes in ((self.out, VIDEO_SUFFIXES), (self.poses, POSES_SUFFIXES)):
            if path is None:
                continue
            if path.suffix.lower() not in suffixes:
                return f"cannot write {path.name}: the name must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}"
            if path.exists() and path.samefile(self.source):
                return f"{path} is the video itself; write to another file"
        return ""

    @property
    def journal(self) -> Path:
        """The path of the journal, which exists until the run is complete."""
        beside = self.out or self.poses
        if beside is None:
            raise ValueError(self.problem())
        return beside.with_name(beside.name + ".journal")


@dataclass(frozen=True, slots=True)
class VideoDone:
    """The outcome of a run. resumed: number of frames from an earlier run. people: number of identities.

    restarted: True if a journal of another video or of other options was replaced. problem: "" unless the video is
    damaged. notes: further messages for the user.
    """

    frames: int
    resumed: int
    people: int
    restarted: bool
    problem: str
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """The outcome as a line for the user."""
        parts = [f"{self.frames} frames, {self.people} people"]
        if self.resumed:
            parts.append(f"went on after {self.resumed} frames of an earlier run")
        if self.restarted:
            parts.append("an earlier run had other options or another video, so this one began anew")
        return "; ".join([*parts, *self.notes])


async def process_video(
    video: VideoReader, task: VideoTask, catalogue: Catalogue, model: str, *, advance: Callable[[], None]
) -> VideoDone:
    """Write the outputs of `task`. Files get their final names when they are complete. advance: called once per frame.

    Raises VideoError and JournalError if something cannot be read or written. The journal is kept in that case,
    and on cancellation.
    """
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(task.journal, _about(task, model)))
        outputs = stack.enter_context(ExitStack())
        out, poses = (outputs.enter_context(_published(path)) for path in (task.out, task.poses))
        serving = await asyncio.to_thread(open_serving, catalogue, [model], Settings())
        stack.push_async_callback(serving.close, drain_seconds=1.0)
        await serving.start()
        writer = outputs.enter_context(_OutputWriter(task, video.info, serving.default, out, poses))
        pool = outputs.enter_context(ThreadPoolExecutor(3, thread_name_prefix="posewire-video"))
        tracker = ConcurrentVideoTracker(video, serving.default, task.options, journal, pool)
        loop = asyncio.get_running_loop()
        done = 0
        writing = loop.create_future()
        writing.set_result(None)
        async with aclosing(tracker.tracked()) as tracked:
            async for frame, people in tracked:
                await writing  # frames are written in order, while later ones are decoded and estimated
                writing = loop.run_in_executor(pool, writer.write, frame, people)
                done += 1
                advance()
        await writing
        await asyncio.to_thread(outputs.close)
        journal.remove()
        resumed, restarted = min(journal.found, done), journal.other is not None
        notes = tracker.notes + writer.notes
        return VideoDone(done, resumed, len(writer.people), restarted, video.problem, notes)


def _about(task: VideoTask, model: str) -> dict[str, object]:
    """Identifies the journal: everything that the estimates depend on."""
    return {"video": fingerprint(task.source), "model": model, "version": __version__, **task.options.about()}


def video_document(name: str, info: VideoInfo, served: ServedModel) -> dict[str, object]:
    """The header of a poses file, which describes the video."""
    return {
        "video": name,
        "width": info.width,
        "height": info.height,
        "frame_rate": round(float(info.rate), 6),
        "model": served.model.name,
        "skeleton": served.skeleton.name,
        "keypoints": served.skeleton.keypoints,
    }


class _OutputWriter:
    """Writes the frames of one video to its outputs, in order. A context manager. people: all ids so far."""

    def __init__(
        self, task: VideoTask, info: VideoInfo, served: ServedModel, out: Path | None, poses: Path | None
    ) -> None:
        self.people: set[int] = set()
        self._task = task
        self._smoother = OneEuro() if task.smooth else None
        self._trails = Trails(task.trails) if task.trails > 0 else None
        self._video: VideoWriter | None = None
        self._poses: FramesFile | None = None
        with ExitStack() as opening:
            if out is not None and task.out is not None:
                self._video = opening.enter_context(VideoWriter(out, task.out.suffix, info, task.source))
            if poses is not None and task.poses is not None:
                opening.enter_context(_writing(task.poses))
                about = video_document(shown(task.source.name), info, served)
                self._poses = opening.enter_context(FramesFile(poses, task.poses.suffix, about))
            self._closing = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, trace)

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the user about what the written video leaves out."""
        return () if self._video is None else tuple(self._video.notes)

    def write(self, frame: VideoFrame, people: Poses) -> None:
        """Write a frame with its people."""
        if people.ids is not None:
            self.people.update(number for number in people.ids.tolist() if number >= 0)
        if self._poses is not None and self._task.poses is not None:
            with _writing(self._task.poses):
                self._poses.write(frame.number, frame.seconds, people)
        if self._video is not None:
            if self._smoother is not None:
                people = self._smoother.smooth(people, frame.seconds)
            trails = self._trails.update(people, frame.seconds) if self._trails is not None else ()
            self._video.write(draw(frame.pixels, people, trails=trails), frame.pts)


@contextmanager
def _published(path: Path | None) -> Iterator[Path | None]:
    """Yield a temporary path beside `path`. It is renamed to `path` at the end, and removed after an error."""
    if path is None:
        yield None
        return
    part = path.with_name(path.name + ".part")
    with _writing(path):
        part.touch()
    try:
        yield part
        with _writing(path):
            part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn OSError into VideoError with a message for the user."""
    try:
        yield
    except OSError as error:
        raise VideoError(f"cannot write {path}: {error.strerror or error}") from error
