"""What `posewire video` does: a video's frames through the same pipelines that serve HTTP, tracked, drawn and written.

What the networks saw is kept in a journal beside the output, frame by frame. After a crash the same command reads it
from there and does again only what is cheap: decode, track, draw and encode, from the beginning, so that nothing
depends on where it was interrupted.
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

from engines.catalogue.models import Catalogue
from engines.files import shown
from engines.poses import Poses
from service import __version__
from service.config import Settings
from service.formats.frames import POSES_SUFFIXES, FramesFile
from service.inference.model_registry import ServedModel, open_serving
from service.media.overlay import draw
from service.media.trails import Trails
from service.media.video import VideoError, VideoFrame, VideoInfo, VideoReader
from service.media.video_out import VIDEO_SUFFIXES, VideoWriter
from service.offline.journal import Journal
from service.offline.video_frames import FramePoses, Seek
from service.offline.video_journal import fingerprint
from service.tracking.smoothing import OneEuro


@dataclass(frozen=True, slots=True)
class VideoTask:
    """What to make of the video `source`.

    out: the video to write with the skeletons drawn. poses: the file of poses to write. At least one of the two.
    trails: seconds of everybody's way to draw. smooth: draw keypoints smoothed; in the file of poses they never are.
    """

    source: Path
    out: Path | None
    poses: Path | None
    seek: Seek
    trails: float = 0.0
    smooth: bool = True

    def problem(self) -> str:
        """What makes no sense, for the user; empty if nothing does."""
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
        """Where the journal is until all is done."""
        beside = self.out or self.poses
        if beside is None:
            raise ValueError(self.problem())
        return beside.with_name(beside.name + ".journal")


@dataclass(frozen=True, slots=True)
class VideoDone:
    """How it went. resumed: how many of the frames an earlier run had seen. people: how many identities there were.

    restarted: whether a journal of other options or another video was there, and is lost. problem: of the video.
    notes: what else the user should know.
    """

    frames: int
    resumed: int
    people: int
    restarted: bool
    problem: str
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """A line for the user."""
        parts = [f"{self.frames} frames, {self.people} people"]
        if self.resumed:
            parts.append(f"went on after {self.resumed} frames of an earlier run")
        if self.restarted:
            parts.append("an earlier run had other options or another video, so this one began anew")
        return "; ".join([*parts, *self.notes])


async def process_video(
    video: VideoReader, task: VideoTask, catalogue: Catalogue, model: str, *, advance: Callable[[], None]
) -> VideoDone:
    """Write what `task` asks for; files appear under their names when they are complete. advance: called per frame.

    Raises VideoError and JournalError for what cannot be read or written; what was seen until then stays in the
    journal, as it does when this is cancelled.
    """
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(task.journal, _about(task, model)))
        outputs = stack.enter_context(ExitStack())
        out, poses = (outputs.enter_context(_published(path)) for path in (task.out, task.poses))
        serving = await asyncio.to_thread(open_serving, catalogue, [model], Settings())
        stack.push_async_callback(serving.close, drain_seconds=1.0)
        await serving.start()
        sink = outputs.enter_context(_Sink(task, video.info, serving.default, out, poses))
        pool = outputs.enter_context(ThreadPoolExecutor(3, thread_name_prefix="posewire-video"))
        frames = FramePoses(video, serving.default, task.seek, journal, pool)
        loop = asyncio.get_running_loop()
        done = 0
        writing = loop.create_future()
        writing.set_result(None)
        async with aclosing(frames.tracked()) as tracked:
            async for picture, people in tracked:
                await writing  # one after the other, but beside the networks and the decoder
                writing = loop.run_in_executor(pool, sink.write, picture, people)
                done += 1
                advance()
        await writing
        await asyncio.to_thread(outputs.close)
        journal.remove()
        resumed, restarted = min(journal.found, done), journal.other is not None
        notes = frames.notes + sink.notes
        return VideoDone(done, resumed, len(sink.people), restarted, video.problem, notes)


def _about(task: VideoTask, model: str) -> dict[str, object]:
    """What the journal is of: everything that the networks' results depend on."""
    return {"video": fingerprint(task.source), "model": model, "version": __version__, **task.seek.about()}


def video_document(name: str, info: VideoInfo, served: ServedModel) -> dict[str, object]:
    """What a file of poses says of its video before the frames."""
    return {
        "video": name,
        "width": info.width,
        "height": info.height,
        "frame_rate": round(float(info.rate), 6),
        "model": served.model.name,
        "skeleton": served.skeleton.name,
        "keypoints": served.skeleton.keypoints,
    }


class _Sink:
    """Writes the frames of one video, in order. A context manager."""

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
        """What was left out of the video."""
        return () if self._video is None else tuple(self._video.notes)

    def write(self, picture: VideoFrame, people: Poses) -> None:
        """Write a frame with its people."""
        if people.ids is not None:
            self.people.update(number for number in people.ids.tolist() if number >= 0)
        if self._poses is not None and self._task.poses is not None:
            with _writing(self._task.poses):
                self._poses.write(picture.number, picture.seconds, people)
        if self._video is not None:
            if self._smoother is not None:
                people = self._smoother.smooth(people, picture.seconds)
            trails = self._trails.update(people, picture.seconds) if self._trails is not None else ()
            self._video.write(draw(picture.pixels, people, trails=trails), picture.pts)


@contextmanager
def _published(path: Path | None) -> Iterator[Path | None]:
    """A place beside `path` to write to, which takes its name at the end and is removed after an error."""
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
    """Says what could not be written."""
    try:
        yield
    except OSError as error:
        raise VideoError(f"cannot write {path}: {error.strerror or error}") from error
