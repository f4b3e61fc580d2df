"""A media file opened for reading: the packets of its streams, with timestamps on a clock that does not jump."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, cast

import av
from av.audio.stream import AudioStream
from av.stream import Stream
from av.video.stream import VideoStream

from service.media.timeline import ERROR_S, JUMP_S, Timeline

_USUAL_RATE = Fraction(25)
_MAX_RATE = 1000
"""Files that declare a higher rate declare their clock's ticks."""
MAX_PIXELS = 1 << 27
"""Limit of a frame: twice that of 16K video. A small file can declare a size that takes all memory."""
_MAX_TICKS = 1 << 62
"""Larger timestamps are errors, and would overflow when they are rebased."""
_BUFFER_BYTES = 1 << 18
_TEXT = "tty"
"""FFmpeg plays text as the screen of a terminal."""
_NO_PROTOCOL = "none"
"""A playlist given as a video must not open other files or addresses."""
_ANY_TEXT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""Titles and names in a file need not be UTF-8. PyAV 19 always accepts that and has no such argument."""


class VideoError(Exception):
    """The video cannot be read or written. The message is for the user."""


def fraction(ratio: Any) -> Fraction | None:
    """Convert PyAV's type of times and rates: a Fraction up to version 18, its own type from 19 on. None if it is
    unknown, which PyAV gives as None or 0.
    """
    if ratio is None or ratio.numerator <= 0 or ratio.denominator <= 0:
        return None
    return Fraction(ratio.numerator, ratio.denominator)


class MediaFile:
    """The video stream and the sound streams of a file. A context manager.

    video: the stream to decode. sounds: the sound streams that can be decoded. unknown: number of other sound streams.
    tick: length of one unit of the video's timestamps in seconds. rate: average frames per second.
    size: bytes of the file. start: seconds on the file's clock at which it begins. end: the latest time that was read,
    rebased or not.
    Raises VideoError if the file is not a video, or has no video stream that can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = _open(path)
        self.size = os.fstat(self._bytes.fileno()).st_size
        try:
            options = {"protocol_whitelist": _NO_PROTOCOL}
            self.file = av.open(self._bytes, options=options, buffer_size=_BUFFER_BYTES, **_ANY_TEXT)
        except (av.FFmpegError, OSError) as error:
            self._bytes.close()
            raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}") from error
        try:
            if self.file.format.name == _TEXT:
                raise VideoError(f"{path} cannot be read as a video: it is text")
            self.file.flags &= ~av.container.Flags.gen_pts.value  # wrong in AVI files with B-frames
            self.video = self._find_video()
            streams = self.file.streams.audio
            self.sounds = [s for s in streams if s.codec_context is not None and s.codec_context.sample_rate]
            self.unknown = len(streams) - len(self.sounds)
            self.rate = self._rate()
            self.tick = fraction(self.video.time_base) or 1 / self.rate
            self.start = self._start()
            self.end = Fraction(0)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self._bytes.close()

    def packets(self) -> Iterator[av.Packet[VideoStream | AudioStream]]:
        """Yield the packets of the video and of all sounds in the file's order, with timestamps on one steady clock.

        Raises av.FFmpegError or OSError if the rest of the file cannot be read.
        """
        timeline = Timeline(self._jumps, self._own_clocks())
        for packet in self.file.demux([self.video, *self.sounds]):
            if packet.size:  # an empty packet ends its decoder; PyAV gives one per stream at the end
                self._rebase(packet, timeline)
                yield cast("av.Packet[VideoStream | AudioStream]", packet)

    @property
    def error_seconds(self) -> int:
        """If two times of this format differ by more than these seconds, one of them is wrong."""
        return JUMP_S if self._jumps else ERROR_S

    @property
    def _jumps(self) -> bool:
        return bool(self.file.format.flags & av.format.Flags.ts_discont.value)

    def _rebase(self, packet: av.Packet[Stream], timeline: Timeline) -> None:
        tick = fraction(packet.time_base)
        pts, dts = (None if t is None or abs(t) > _MAX_TICKS else t for t in (packet.pts, packet.dts))
        length = packet.duration or 0
        ends = [time + length for time in (dts, pts) if time is not None]
        if tick is not None and dts is not None:
            if packet.stream is self.video:
                offset = timeline.video(dts * tick, length * tick or 1 / self.rate)
            else:
                offset = timeline.sound(packet.stream.index, dts * tick, length * tick)
            if pts is not None and abs(pts - dts) * tick > self.error_seconds:
                pts = None
            shift = round(offset / tick)
            dts += shift
            pts = None if pts is None else pts + shift
            ends.append(dts + length)
        self.end = max([self.end, *(end * (tick or self.tick) for end in ends)])
        packet.dts, packet.pts = dts, pts

    def _find_video(self) -> VideoStream:
        """The stream that the ffmpeg program would choose: no cover image; the default stream, or else the largest."""
        cover = av.stream.Disposition.attached_pic
        videos = [s for s in self.file.streams.video if not s.disposition & cover]
        able = [s for s in videos if s.codec_context is not None]
        if able:
            best: VideoStream = max(able, key=_preference)
            if best.width * best.height > MAX_PIXELS:
                raise VideoError(f"{self.path} has frames of {best.width} x {best.height} pixels, which is too large")
            best.thread_type = "SLICE"  # with frame threads, an error at the end loses good frames
            best.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            return best
        if videos:
            raise VideoError(f"{self.path} has no frame that can be decoded: its codec is not supported")
        kinds = sorted({stream.type for stream in self.file.streams if stream.type != "video"})
        raise VideoError(f"{self.path} has no video in it" + (f", only {' and '.join(kinds)}" if kinds else ""))

    def _rate(self) -> Fraction:
        rates = (fraction(self.video.average_rate), fraction(self.video.guessed_rate))
        return next((rate for rate in rates if rate is not None and rate <= _MAX_RATE), _USUAL_RATE)

    def _own_clocks(self) -> dict[int, Fraction]:
        """Offsets of sounds with their own clock. In formats whose clock may jump, these start far from the video."""
        start = _start_of(self.video)
        if not self._jumps or start is None:
            return {}
        away = {s.index: start - begin for s in self.sounds if (begin := _start_of(s)) is not None}
        return {index: seconds for index, seconds in away.items() if abs(seconds) > JUMP_S}

    def _start(self) -> Fraction:
        """When the first stream begins. Streams that begin too far from the video are ignored as errors."""
        start = _start_of(self.video)
        if start is None:
            return Fraction(0)
        begins = (_start_of(sound) for sound in self.sounds)
        return min([start, *(begin for begin in begins if begin is not None and start - begin <= self.error_seconds)])


def _open(path: Path) -> io.FileIO:
    """Open the file as bytes. FFmpeg then sees only the name's suffix, by which it recognises some formats."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path} is not a file; save the video to a file first")
        if not status.st_size:
            raise VideoError(f"{path} cannot be read as a video: it is empty")
        file = io.FileIO(path)
    except OSError as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror or error}") from error
    file.name = f"video{path.suffix}"
    return file


def _start_of(stream: Stream) -> Fraction | None:
    tick = fraction(stream.time_base)
    return None if tick is None or stream.start_time is None else stream.start_time * tick


def _preference(stream: VideoStream) -> tuple[bool, int, int]:
    default = bool(stream.disposition & av.stream.Disposition.default)
    return default, stream.width * stream.height, -stream.index
