"""Writing a video file with the sound of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from engines.poses import Frame
from service.imaging.video import VideoError, VideoInfo

_BT709, _LIMITED = 1, 1
"""The colours that every player assumes."""
_HERTZ = 48_000
"""Of sound that is encoded anew; Opus knows few others."""


class _Kind(NamedTuple):
    container: str
    codec: str
    sound: str
    options: dict[str, str]


_H264 = {"crf": "20", "preset": "veryfast"}
_VP9 = {"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "7", "row-mt": "1"}
_KINDS = {
    ".mp4": _Kind("mp4", "libx264", "aac", _H264),
    ".m4v": _Kind("mp4", "libx264", "aac", _H264),
    ".mov": _Kind("mov", "libx264", "aac", _H264),
    ".mkv": _Kind("matroska", "libx264", "aac", _H264),
    ".webm": _Kind("webm", "libvpx-vp9", "libopus", _VP9),
}
VIDEO_SUFFIXES = tuple(_KINDS)


class VideoWriter:
    """Writes frames with the times that they had, and the sound of `source`, to `path`. A context manager.

    info: of the video that the frames are of. suffix: which kind of file, among VIDEO_SUFFIXES.
    A last odd row or column of pixels is left out, as the codecs want even sizes. Sound that this kind of file cannot
    hold as it is, is encoded anew. Raises VideoError where something cannot be written.
    """

    def __init__(self, path: Path, suffix: str, info: VideoInfo, source: Path) -> None:
        self._path = path
        self._tick = info.tick
        kind = _KINDS[suffix.lower()]
        flags = {"movflags": "faststart"} if kind.container in ("mp4", "mov") else {}
        with ExitStack() as opened:
            try:
                self._input = opened.enter_context(av.open(source, metadata_errors="replace"))
                self._output = av.open(path, "w", format=kind.container, options=flags)
            except (av.FFmpegError, OSError) as error:
                raise self._failed(error) from error
            opened.pop_all()
        stream = self._output.add_stream(kind.codec, rate=info.rate, options=kind.options)
        assert isinstance(stream, av.VideoStream)  # noqa: S101 - tells the type checker
        stream.width, stream.height = info.width - info.width % 2, info.height - info.height % 2
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = info.tick
        context.sample_aspect_ratio = info.pixel_aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._stream = stream
        self._sound = _Sound(self._input, self._output, kind.sound)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._input.close()
            with suppress(av.FFmpegError, OSError):  # what is left behind after an error is of no use anyway
                self._output.close()

    def write(self, pixels: Frame, pts: int) -> None:
        """Add a frame. pts: in ticks of the info, more than that of the frame before."""
        height, width = self._stream.height, self._stream.width
        frame = av.VideoFrame.from_ndarray(pixels[:height, :width], "rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = pts, self._tick
        try:
            self._output.mux(self._stream.encode(frame))
            self._sound.copy(until=pts * self._tick)
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _finish(self) -> None:
        try:
            self._output.mux(self._stream.encode(None))
            self._sound.copy(until=None)
            self._output.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> VideoError:
        return VideoError(f"cannot write {self._path}: {getattr(error, 'strerror', None) or error}")


class _Sound:
    """The sound of one file on its way into another."""

    def __init__(self, source: InputContainer, target: OutputContainer, codec: str) -> None:
        self._target = target
        self._copied: dict[int, AudioStream] = {}
        self._encoded: dict[int, AudioStream] = {}
        for stream in source.streams.audio:
            try:
                self._copied[stream.index] = target.add_stream_from_template(stream)
            except ValueError:  # this kind of file does not hold that codec
                made = target.add_stream(codec, rate=_HERTZ)
                assert isinstance(made, AudioStream)  # noqa: S101
                made.layout = "mono" if stream.layout.nb_channels == 1 else "stereo"
                self._encoded[stream.index] = made
        self._packets = self._demux(source)
        self._next = next(self._packets, None)

    def copy(self, until: Fraction | None) -> None:
        """Pass on what is heard up to `until` seconds; everything for None."""
        while (packet := self._next) is not None:
            if until is not None and packet.pts is not None and packet.pts * packet.time_base > until:
                return
            self._pass(packet)
            self._next = next(self._packets, None)
        if until is None:
            for stream in self._encoded.values():
                self._target.mux(stream.encode(None))

    @staticmethod
    def _demux(source: InputContainer) -> Iterator[av.Packet[AudioStream]]:
        if source.streams.audio:
            try:
                yield from source.demux(source.streams.audio)
            except av.FFmpegError:  # the end of a broken file, of which VideoReader tells
                return

    def _pass(self, packet: av.Packet[AudioStream]) -> None:
        index = packet.stream.index
        if index in self._copied:
            if packet.dts is not None:
                packet.stream = self._copied[index]
                self._target.mux(packet)
            return
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return
        for frame in frames:
            self._target.mux(self._encoded[index].encode(frame))
