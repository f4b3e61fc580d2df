"""Reading a video file: its frames, upright, each with its time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Self, cast

import av
from av.sidedata.sidedata import SideData, Type
from av.video.stream import VideoStream

from engines.poses import Frame
from service.media.media_file import MAX_PIXELS, MediaFile, VideoError, fraction
from service.media.pixels import is_sideways, upright
from service.media.timeline import JUMP_S, Guess, steady
from service.media.yuv import to_rgb

__all__ = ["MAX_PIXELS", "VideoError", "VideoFrame", "VideoInfo", "VideoReader", "orientation"]

_TIMED = ("mp4", "matroska", "avi", "flv")
"""Containers whose header has the length of the video."""
_SHORT_S = 0.5
"""A video that ends this much before the length in its header is truncated."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video as it is displayed.

    rate: average frames per second. frames: approximate number of frames; None if unknown.
    tick: length of one unit of `VideoFrame.pts` in seconds. pixel_aspect: width of a pixel divided by its height.
    start: seconds on the clock of `VideoFrame.pts` at which the file begins.
    """

    width: int
    height: int
    rate: Fraction
    frames: int | None
    tick: Fraction
    pixel_aspect: Fraction
    start: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """A frame of a video. pts: time in ticks, on a clock without jumps. seconds: since the beginning of the file."""

    number: int
    pixels: Frame
    pts: int
    seconds: float


class VideoReader:
    """Reads the frames of a video file, once. A context manager.

    Applies the file's rotation and mirroring. All frames have the size of the first, and times always grow, whatever
    the file's clock does. problem: after the last frame, a message if the file is damaged; otherwise "".
    Raises VideoError if the file is not a video or has no frame that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._path = path
        self._damaged = 0
        self._cut = False
        self._encrypted = False
        self._guess = Guess()
        self._orientation = 1
        self._media = MediaFile(path)
        try:
            rate, tick = self._media.rate, self._media.tick
            self._finer = max(1, ceil(rate * tick))  # some clocks are too coarse for their frame rate
            self._tick = tick / self._finer
            self._step = max(1, round(1 / (rate * self._tick)))
            self._frames = steady(self._timed())
            first = next(self._frames, None)
            if first is None:
                raise VideoError(f"{path} has no frame that can be decoded" + self._reason())
            self._first: tuple[av.VideoFrame, int] | None = first
            self._orientation = orientation(first[0])
            self._size = first[0].width, first[0].height
            self.info = self._describe(*first)
        except BaseException:
            self._media.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._media.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in the order of their times. Blocks for a few milliseconds per frame."""
        number = 0
        timed, self._first = self._first, None
        while timed is not None:
            frame, pts = timed
            pixels = upright(to_rgb(frame, *self._size), self._orientation)
            yield VideoFrame(number, pixels, pts, float(pts * self._tick - self.info.start))
            number += 1
            timed = next(self._frames, None)

    def _describe(self, first: av.VideoFrame, pts: int) -> VideoInfo:
        stream, file = self._media.video, self._media.file
        frames = stream.frames or None
        if frames is None and file.duration:
            frames = max(1, round(Fraction(file.duration, av.time_base) * self._media.rate))
        aspect = fraction(stream.sample_aspect_ratio) or Fraction(1)
        width, height = first.width, first.height
        if is_sideways(self._orientation):
            width, height, aspect = height, width, 1 / aspect
        start, time = self._media.start, pts * self._tick
        if not 0 <= time - start <= self._media.error_seconds:
            start = time
        return VideoInfo(width, height, self._media.rate, frames, self._tick, aspect, start)

    def _timed(self) -> Iterator[tuple[av.VideoFrame, int | None, int]]:
        """Yield each frame with its time, or None, and its duration in ticks."""
        for frame in self._decode():
            time = self._guess.time(frame.pts, frame.dts)
            duration = frame.duration * self._finer
            if not 0 < duration * self._tick <= JUMP_S:
                duration = self._step
            yield frame, None if time is None else time * self._finer, duration

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield the decoded frames. Sets `problem` if a part of the file could not be read."""
        first = True
        broken = ""
        try:
            for packet in self._media.packets():
                if packet.stream is self._media.video:
                    if first:
                        self._guess.first, first = packet.dts, False
                    self._encrypted |= packet.has_sidedata("encryption_info")
                    self._cut = packet.is_corrupt
                    yield from self._frames_of(cast("av.Packet[VideoStream]", packet))
        except (av.FFmpegError, OSError) as error:
            broken = f"{self._path} cannot be read any further: {error.strerror or error}"
        for frame in self._frames_of(None):
            self._cut |= frame.is_corrupt
            yield frame
        self.problem = broken or self._verdict()

    def _frames_of(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        """Return the frames that a packet completes. None: the frames that the decoder still holds."""
        try:
            return self._media.video.codec_context.decode(packet)
        except av.FFmpegError:
            self._damaged += 1
            return []

    def _reason(self) -> str:
        if self._encrypted:
            return ": it is encrypted"
        return f": {self._damaged} pieces of it are damaged" if self._damaged else ""

    def _verdict(self) -> str:
        problems = []
        file = self._media.file
        if file.duration and any(kind in file.format.name for kind in _TIMED):
            whole = Fraction(file.duration, av.time_base)
            read = self._media.end - Fraction(min(0, file.start_time or 0), av.time_base)
            if read < whole - Fraction(_SHORT_S):
                problems.append(f"it ends after {float(read):.1f} of {float(whole):.1f} s")
        if self._damaged:
            problems.append(f"{self._damaged} damaged pieces were left out")
        if not problems and (self._cut or _ends_within_a_packet(file.format.name, self._media.size)):
            problems.append("its last frame is damaged")
        return f"{self._path} is not whole: {' and '.join(problems)}" if problems else ""


def _ends_within_a_packet(container: str, size: int) -> bool:
    """True if a transport stream was truncated. Its packets have one size, which depends on its encoder."""
    return container == "mpegts" and all(size % packet for packet in (188, 192, 204))


def orientation(frame: av.VideoFrame) -> int:
    """Read a frame's display matrix (libavutil/display.h), which maps (x, y) to (a x + c y, b x + d y), as an EXIF
    orientation, 1..8. Other rotations are rounded to the nearest quarter turn.
    """
    try:
        matrix = cast("Mapping[Type, SideData]", frame.side_data)[Type.DISPLAYMATRIX]
    except KeyError:
        return 1
    except ValueError:  # PyAV 18 does not know all kinds of side data of its FFmpeg, such as the EXIF of JPEGs
        return {0: 1, 1: 8, -1: 6}.get(round(frame.rotation / 90), 3)
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(matrix))
    if abs(b) + abs(c) > abs(a) + abs(d):
        return ((5, 8), (6, 7))[c < 0][b < 0]
    return ((1, 4), (2, 3))[a < 0][d < 0]
