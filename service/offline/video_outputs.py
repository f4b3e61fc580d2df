"""Writes the frames of one video to its outputs: smoothed, with faces blurred, drawn, or as poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from engines.files import shown
from engines.poses import Doubles, Poses
from engines.skeletons import Skeleton
from service.formats.frames import FramesFile
from service.media.draw import HeatMap, Trails, draw
from service.media.faces import FaceMemory, blur_circles, head_circles
from service.media.video_reader import VideoError, VideoFrame, VideoInfo
from service.media.video_writer import VideoWriter
from service.offline.resumable_tracking import FrameEstimator
from service.offline.video_events import VideoEvents
from service.offline.video_task import VideoTask
from service.tracking.two_way_smoothing import TwoWaySmoother

_MOST_WAITING = 64
"""Frames that wait to be smoothed: a second of most videos."""
_BLUR_AROUND_S = 0.3
"""For how long before and after a person is found the place of the face is blurred, too."""


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


class VideoOutputs:
    """Writes the frames of one video to its outputs, in order.

    outputs: closes the outputs. out, poses, events: the paths to write to, without their final names.

    Raises VideoError.
    """

    def __init__(
        self,
        outputs: ExitStack,
        task: VideoTask,
        info: VideoInfo,
        estimator: FrameEstimator,
        out: Path | None,
        poses: Path | None,
        events: Path | None = None,
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
            outputs.enter_context(reported(task.poses))
            about = video_document(task.name or shown(task.source.name), info, estimator.model, self._skeleton)
            self._poses = outputs.enter_context(FramesFile(poses, task.poses.suffix, about))
        self._events: VideoEvents | None = None
        if task.watches:
            with reported(task.events or Path()):
                try:
                    self._events = VideoEvents(task.places, info, self._skeleton, events)
                except ValueError as error:
                    raise VideoError(str(error)) from error
                outputs.enter_context(self._events)

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
        told: tuple[Sequence[Mapping[str, object]], Mapping[str, object]] = (), {}
        if self._events is not None:
            with reported(self._task.events or Path()):
                told = self._events.update(frame, people)
        if self._poses is not None and self._task.poses is not None:
            with reported(self._task.poses):
                self._poses.write(frame.number, frame.seconds, people, *told)


def _blurred(frame: VideoFrame, people: Poses, circles: Doubles) -> tuple[VideoFrame, Poses]:
    pixels = frame.pixels.copy()
    blur_circles(pixels, circles)
    return replace(frame, pixels=pixels), people


def _room(info: VideoInfo, pixel_bytes: int) -> int:
    """How many frames may wait to be smoothed."""
    return max(1, min(_MOST_WAITING, pixel_bytes // (3 * info.width * info.height)))


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn OSError into VideoError with a message for the user."""
    try:
        yield
    except OSError as error:
        raise VideoError(f"cannot write {path}: {error.strerror or error}") from error
