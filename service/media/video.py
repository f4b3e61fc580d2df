"""The frames of a video file, upright, each with its time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.stream import VideoStream

from engines.poses import Frame
from service.media.media import MediaFile, VideoError, fraction
from service.media.timeline import JUMP_S, Guess, steady

__all__ = ["VideoError", "VideoFrame", "VideoInfo", "VideoReader"]

_HD_HEIGHT = 720
"""From this height on, a video that does not name its colour matrix is taken to have BT.709's, as players do."""
_UNNAMED = 2
_TIMED = ("mp4", "matroska", "avi", "flv")
"""Containers whose header tells how long the video is."""
_SHORT_S = 0.5
"""A video that ends so much earlier than its header says has been cut off."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video as it is displayed.

    rate: frames a second on average. frames: about how many there are, None where the file does not tell.
    tick: seconds that one unit of `VideoFrame.pts` takes. pixel_aspect: width of a pixel by its height.
    start: seconds on the clock of `VideoFrame.pts` where the file begins.
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
    """A frame of a video. pts: its time in ticks, on a clock without jumps. seconds: since the file's beginning."""

    number: int
    pixels: Frame
    pts: int
    seconds: float


class VideoReader:
    """Reads the video of a file, once. A context manager.

    Rotation and mirroring that the file asks for are applied; all frames have the first one's size, and each is later
    than the one before, whatever the file's clock does. After the last, `problem` says what was wrong with the file,
    if anything was.
    Raises VideoError for a file that is no video, and for one without a single frame.
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._path = path
        self._damaged = 0
        self._cut = False
        self._encrypted = False
        self._guess = Guess()
        self._upright = _Upright()
        self._media = MediaFile(path)
        try:
            rate, tick = self._media.rate, self._media.tick
            self._finer = max(1, ceil(rate * tick))  # some clocks are too coarse to tell the frames apart
            self._tick = tick / self._finer
            self._step = max(1, round(1 / (rate * self._tick)))
            self._frames = steady(self._timed())
            first = next(self._frames, None)
            if first is None:
                raise VideoError(f"{path} has no frame that can be decoded" + self._reason())
            self._first: tuple[av.VideoFrame, int] | None = first
            self._upright = _Upright.of(first[0])
            self._size = first[0].width, first[0].height
            self.info = self._describe(*first)
        except BaseException:
            self._media.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._media.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames in the order of their times; blocks for some milliseconds each."""
        number = 0
        timed, self._first = self._first, None
        while timed is not None:
            frame, pts = timed
            pixels = self._upright.turn(self._pixels(frame))
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
        if self._upright.transposed:
            width, height, aspect = height, width, 1 / aspect
        start, time = self._media.start, pts * self._tick
        if not 0 <= time - start <= self._media.far:
            start = time
        return VideoInfo(width, height, self._media.rate, frames, self._tick, aspect, start)

    def _timed(self) -> Iterator[tuple[av.VideoFrame, int | None, int]]:
        """The frames, each with its time, if it has one, and its duration in ticks."""
        for frame in self._decode():
            time = self._guess.time(frame.pts, frame.dts)
            duration = frame.duration * self._finer
            if not 0 < duration * self._tick <= JUMP_S:
                duration = self._step
            yield frame, None if time is None else time * self._finer, duration

    def _decode(self) -> Iterator[av.VideoFrame]:
        """The frames; notes in `problem` what of the file could not be read."""
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
        """The frames that a packet completes; those that the decoder still has for None."""
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

    def _pixels(self, frame: av.VideoFrame) -> Frame:
        """Full-range RGB in the first frame's size."""
        matrix = "ITU709" if frame.colorspace == _UNNAMED and frame.height >= _HD_HEIGHT else None
        width, height = self._size
        rgb = frame.reformat(width, height, "rgb24", src_colorspace=matrix, dst_color_range="JPEG")
        return np.asarray(rgb.to_ndarray(), np.uint8)


def _ends_within_a_packet(container: str, size: int) -> bool:
    """Whether a transport stream was cut off; its packets are of one size, which depends on what made it."""
    return container == "mpegts" and all(size % packet for packet in (188, 192, 204))


@dataclass(frozen=True, slots=True)
class _Upright:
    """How stored pixels become displayed ones: exchange the axes, then mirror them."""

    transposed: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @staticmethod
    def of(frame: av.VideoFrame) -> _Upright:
        """As the frame's display matrix says (libavutil/display.h): (x, y) goes to (a x + c y, b x + d y).

        Of matrices that are no quarter turn, what is nearest to one.
        """
        try:
            matrix = cast("Mapping[Type, SideData]", frame.side_data)[Type.DISPLAYMATRIX]
        except KeyError:
            return _Upright()
        a, b, _, c, d, *_ = struct.unpack("9i", bytes(matrix))
        transposed = abs(b) + abs(c) > abs(a) + abs(d)
        return _Upright(transposed, (c if transposed else a) < 0, (b if transposed else d) < 0)

    def turn(self, pixels: Frame) -> Frame:
        """The picture upright; contiguous."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        if self.mirror_x:
            pixels = pixels[:, ::-1]
        if self.mirror_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)
