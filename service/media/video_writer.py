"""Writing a video file, with the sound of another file."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from fractions import Fraction
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import av
import numpy as np

from engines.poses import Frame
from service.media.media_file import MediaFile, VideoError
from service.media.sound import Sound
from service.media.video_reader import VideoInfo

_BT709, _LIMITED = 1, 1
"""The colour space that every player assumes."""
_FINEST = Fraction(1, 90_000)
"""The finest ticks that are written. Some containers and encoders do not support much finer ones."""


class _FileType(NamedTuple):
    container: str
    codec: str
    sound: str
    options: dict[str, str]


_H264 = {"crf": "20", "preset": "veryfast"}
_VP9 = {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"}
_FILE_TYPES = {
    ".mp4": _FileType("mp4", "libx264", "aac", _H264),
    ".m4v": _FileType("mp4", "libx264", "aac", _H264),
    ".mov": _FileType("mov", "libx264", "aac", _H264),
    ".mkv": _FileType("matroska", "libx264", "aac", _H264),
    ".webm": _FileType("webm", "libvpx-vp9", "libopus", _VP9),
}
_STEPS_OF_31_BITS = ("mp4", "mov")
_LIVE_FLAGS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "2000000"}
VIDEO_SUFFIXES = tuple(_FILE_TYPES)


class VideoWriter:
    """Writes frames at their original times, with the sound of `source`, to `path`. A context manager.

    info: describes the source video. suffix: the type of file, one of VIDEO_SUFFIXES. The file's clock begins at 0.
    source: None for a live source, which has no sound; the file is then written in pieces of two seconds, so that it
    can be played while it grows, and after a crash.
    Codecs need even sizes, so a last odd row or column of pixels is left out; a single one is doubled.
    Sound that this type of file cannot hold is re-encoded. notes: messages about sound that was left out.
    Raises VideoError if something cannot be written.
    """

    def __init__(self, path: Path, suffix: str, info: VideoInfo, source: Path | None) -> None:
        self._path = path
        self._info = info
        self._tick = max(info.tick, _FINEST)
        self._last = -1
        kind = _FILE_TYPES[suffix.lower()]
        flags: dict[str, str] = {}
        coding = kind.options
        if kind.container in _STEPS_OF_31_BITS:
            flags = _LIVE_FLAGS if source is None else {"movflags": "faststart"}
            if source is None:
                coding = {**coding, "bf": "0"}  # in pieces, B-frames would delay all times
        with ExitStack() as opened:
            self._source = None if source is None else opened.enter_context(MediaFile(source))
            if kind.container in _STEPS_OF_31_BITS and self._source is not None:
                # One step between frames can be as long as the file.
                length = Fraction(self._source.file.duration or 0, av.time_base)
                self._tick *= max(1, ceil(length / self._tick / (1 << 31)))
            # Without the prefix, FFmpeg would take a part of the name before a colon for a protocol.
            self._output = av.open(f"file:{path}", "w", format=kind.container, options=flags)
            opened.callback(self._give_up)
            width, height = (max(2, size - size % 2) for size in (info.width, info.height))
            stream = self._output.add_stream(kind.codec, rate=info.rate, options=coding)
            assert isinstance(stream, av.VideoStream)  # noqa: S101 - tells the type checker
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.time_base = self._tick
            context.sample_aspect_ratio = info.pixel_aspect
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
            self._stream = stream
            try:
                context.open()
            except (av.FFmpegError, ValueError) as error:
                why = f"{kind.codec} does not take frames of {width} x {height} pixels"
                raise VideoError(f"cannot write {path}: {why}; write to a .webm file") from error
            try:
                self._sound: Sound | None = None
                if self._source is not None:
                    self._sound = Sound(self._source, self._output, kind.sound, info.start)
                self._output.start_encoding()
            except (av.FFmpegError, OSError) as error:
                raise self._failed(error) from error
            opened.pop_all()

    @property
    def notes(self) -> list[str]:
        """Messages for the user about what was left out."""
        return [] if self._sound is None else self._sound.notes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            if self._source is not None:
                self._source.close()
            self._give_up()

    def write(self, pixels: Frame, pts: int) -> None:
        """Write a frame. pts: time in ticks of the info, later than the frame before."""
        time = pts * self._info.tick - self._info.start
        self._last = max(self._last + 1, round(time / self._tick))
        frame = av.VideoFrame.from_ndarray(self._fitted(pixels), "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = self._last, self._tick
        try:
            self._output.mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.copy(until=time)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _fitted(self, pixels: Frame) -> Frame:
        height, width = self._stream.height, self._stream.width
        pixels = pixels[:height, :width]
        missing = height - pixels.shape[0], width - pixels.shape[1]
        return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "edge") if any(missing) else pixels

    def _finish(self) -> None:
        try:
            self._output.mux(self._stream.encode(None))
            if self._sound is not None:
                self._sound.copy(until=None)
            self._output.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _give_up(self) -> None:
        with suppress(av.FFmpegError, OSError):  # after an error the file is useless anyway
            self._output.close()

    def _failed(self, error: Exception) -> VideoError:
        return VideoError(f"cannot write {self._path}: {getattr(error, 'strerror', None) or error}")
