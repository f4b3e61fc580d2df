"""The frames of a video file, upright, each with its time."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData, Type
from av.video.stream import VideoStream

from engines.poses import Frame

_HD_HEIGHT = 720
"""From this height on, a video that does not name its colour matrix is taken to have BT.709's, as players do."""
_UNNAMED = 2
_USUAL_RATE = Fraction(25)
_TIMED = ("mp4", "matroska")
"""Containers whose header tells how long the video is."""
_SHORT_S = 0.5
"""A video that ends so much earlier than its header says has been cut off."""


class VideoError(Exception):
    """A video that cannot be read or written; the message is for the user."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A video as it is displayed.

    rate: frames a second on average. frames: about how many there are, None where the file does not tell.
    tick: seconds that one unit of `Picture.pts` takes. pixel_aspect: width of a pixel by its height.
    """

    width: int
    height: int
    rate: Fraction
    frames: int | None
    tick: Fraction
    pixel_aspect: Fraction


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A frame of a video. pts: its time in ticks, as the file says. seconds: since the beginning of the video."""

    number: int
    pixels: Frame
    pts: int
    seconds: float


class VideoReader:
    """Reads the first video stream of a file, once. A context manager.

    Rotation and mirroring that the file asks for are applied; all frames have the first one's size, and each is later
    than the one before. After the last, `problem` says what was wrong with the file, if anything was.
    Raises VideoError for a file that is no video, and for one without a single frame.
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._path = path
        self._damaged = 0
        self._upright = _Upright()
        try:
            self._file = av.open(path, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}") from error
        try:
            self._stream = self._find_stream()
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise VideoError(f"{path} has no frame that can be decoded")
            self._upright = _Upright.of(first)
            self._size = first.width, first.height
            self._first: av.VideoFrame | None = first
            self.info = self._describe(first)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Picture]:
        """The frames in the order of their times; blocks for some milliseconds each."""
        first, self._first = self._first, None
        start = Fraction(self._file.start_time or 0, av.time_base) if self._file.start_time else Fraction(0)
        step = max(1, round(1 / (self.info.rate * self.info.tick)))
        number, last = 0, None
        while (frame := first if number == 0 else next(self._frames, None)) is not None:
            pts = frame.pts
            if pts is None:
                pts = 0 if last is None else last + step
            elif last is not None and pts <= last:
                pts = last + 1
            yield Picture(number, self._upright.turn(self._pixels(frame)), pts, float(pts * self.info.tick - start))
            number, last = number + 1, pts

    def _find_stream(self) -> VideoStream:
        for stream in self._file.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:
                stream.thread_type = "AUTO"
                return stream
        kinds = sorted({stream.type for stream in self._file.streams if stream.type != "video"})
        raise VideoError(f"{self._path} has no video in it" + (f", only {' and '.join(kinds)}" if kinds else ""))

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        stream = self._stream
        rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        tick = stream.time_base or 1 / rate
        frames = stream.frames or None
        if frames is None and self._file.duration:
            frames = max(1, round(Fraction(self._file.duration, av.time_base) * rate))
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = first.width, first.height
        if self._upright.transposed:
            width, height, aspect = height, width, 1 / aspect
        return VideoInfo(width, height, Fraction(rate), frames, Fraction(tick), aspect)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """The frames; notes in `problem` what of the file could not be read."""
        end = Fraction(0)
        try:
            for packet in self._file.demux():
                if packet.pts is not None and packet.time_base:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream_index == self._stream.index:
                    yield from self._frames_of(cast("av.Packet[VideoStream]", packet))
        except (av.FFmpegError, OSError) as error:
            self.problem = f"{self._path} cannot be read any further: {error.strerror or error}"
        else:
            self.problem = self._verdict(end)

    def _frames_of(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.error.InvalidDataError:
            self._damaged += 1
            return []

    def _verdict(self, end: Fraction) -> str:
        problems = []
        if self._damaged:
            problems.append(f"{self._damaged} damaged pieces were left out")
        if self._file.duration and any(kind in self._file.format.name for kind in _TIMED):
            whole = Fraction(self._file.duration, av.time_base)
            read = end - Fraction(self._file.start_time or 0, av.time_base)
            if read < whole - Fraction(_SHORT_S):
                problems.append(f"it ends after {float(read):.1f} of {float(whole):.1f} s")
        return f"{self._path} is not whole: {' and '.join(problems)}" if problems else ""

    def _pixels(self, frame: av.VideoFrame) -> Frame:
        """Full-range RGB in the first frame's size."""
        matrix = "ITU709" if frame.colorspace == _UNNAMED and frame.height >= _HD_HEIGHT else None
        width, height = self._size
        rgb = frame.reformat(width, height, "rgb24", src_colorspace=matrix, dst_color_range="JPEG")
        return np.asarray(rgb.to_ndarray(), np.uint8)


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
