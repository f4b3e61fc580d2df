"""The kinds of sources. Each is a small class with one method, `run`, which reads the source until it ends or fails.

They run in a process of their own, see `reader`: what FFmpeg does cannot be interrupted, only killed. Nobody here tries
again or waits for a time; `camera.Camera` does that for all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
from av.container import InputContainer

from service.cameras.sources.address import SourceKind
from service.cameras.sources.newest import NewestFrame
from service.media.media_file import fraction
from service.media.video_reader import MAX_PIXELS

_LIVE = {"fflags": "nobuffer", "fpsprobesize": "0", "probesize": str(1 << 20), "analyzeduration": "2000000"}
"""Of live sources: keep nothing back, and decide within 2 s or 1 MiB what they are."""
_RTSP_PROTOCOLS = "rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto"
_HTTP_PROTOCOLS = "http,https,httpproxy,tcp,tls,crypto"
"""What a source may open. A playlist must not open files of this machine."""
_JUMP_S = 2.0
"""If a source that is played is this far from its own clock, it is played on from there."""
_USUAL_RATE = 25.0


class SourceError(Exception):
    """A source cannot be opened or read. The message says why; it may contain the source's URL."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source that has been opened. rate: frames a second that it declares, or None."""

    width: int
    height: int
    codec: str
    rate: float | None


Opened = Callable[[SourceInfo], None]


class CameraSource(Protocol):
    """Something that gives frames."""

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """Decode every frame into `newest` until the source ends. Raises SourceError.

        opened: called once, before the first frame.
        """


@dataclass(frozen=True, slots=True)
class RtspSource:
    """A camera's stream by RTSP, over TCP: with UDP, lost packets would damage pictures."""

    url: str

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        options = {**_LIVE, "rtsp_transport": "tcp", "protocol_whitelist": _RTSP_PROTOCOLS, "max_delay": "0"}
        _read(self.url, newest, opened, options=options, play=lambda _: False)


@dataclass(frozen=True, slots=True)
class HttpSource:
    """MJPEG, HLS, or anything else that FFmpeg reads by HTTP. HLS arrives in pieces of seconds, and is played."""

    url: str

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        options = {**_LIVE, "protocol_whitelist": _HTTP_PROTOCOLS}
        _read(self.url, newest, opened, options=options, play=_is_played)


@dataclass(frozen=True, slots=True)
class VideoFileSource:
    """A video file, played at its own speed."""

    path: str

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        _read(f"file:{self.path}", newest, opened, options={"protocol_whitelist": "file"}, play=lambda _: True)


@dataclass(frozen=True, slots=True)
class DeviceSource:
    """A camera of this machine, by Video4Linux."""

    path: str

    def run(self, newest: NewestFrame, opened: Opened) -> None:
        """See CameraSource."""
        if not sys.platform.startswith("linux"):
            raise SourceError("cameras of this machine can be read on Linux alone; use an rtsp:// or http:// source")
        if not Path(self.path).exists():
            raise SourceError("there is no such camera")
        _read(self.path, newest, opened, form="v4l2", play=lambda _: False)


SOURCES: Mapping[SourceKind, Callable[[str], CameraSource]] = {
    "rtsp": RtspSource,
    "http": HttpSource,
    "file": VideoFileSource,
    "device": DeviceSource,
}


def _read(
    target: str,
    newest: NewestFrame,
    opened: Opened,
    *,
    play: Callable[[InputContainer], bool],
    options: Mapping[str, str] | None = None,
    form: str | None = None,
) -> None:
    """Decode a source with FFmpeg. play: whether to keep to the source's own clock, as it arrives faster."""
    try:
        with av.open(target, format=form, options=dict(options or {})) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
                raise SourceError("there is no video in it that can be decoded")
            if stream.width * stream.height > MAX_PIXELS:
                raise SourceError(f"its frames of {stream.width} x {stream.height} pixels are too large")
            stream.thread_type = "SLICE"  # frame threads would hold frames back
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            rate = fraction(stream.average_rate)
            name = stream.codec_context.name
            opened(SourceInfo(stream.width, stream.height, name, None if rate is None else float(rate)))
            _decode(container, stream, newest, _Player(float(rate or _USUAL_RATE)) if play(container) else None)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(error.strerror or str(error)) from error


def _decode(container: InputContainer, stream: av.VideoStream, newest: NewestFrame, player: _Player | None) -> None:
    for packet in container.demux(stream):
        try:
            pictures = packet.decode()
        except av.FFmpegError:
            newest.damaged += 1
            continue
        for picture in pictures:
            if player is not None:
                player.wait(picture.time)
            newest.put(picture)


def _is_played(container: InputContainer) -> bool:
    return "hls" in container.format.name.split(",") or bool(container.duration)


class _Player:
    """Waits for the time of each frame. rate: frames a second where frames have no times."""

    def __init__(self, rate: float) -> None:
        self._step = 1 / rate
        self._offset: float | None = None
        self._last = 0.0

    def wait(self, seconds: float | None) -> None:
        """Wait until the frame at `seconds` of the source is due."""
        self._last = self._last + self._step if seconds is None else seconds
        now = time.monotonic()
        late = 0.0 if self._offset is None else now - self._last - self._offset
        if self._offset is None or abs(late) > _JUMP_S:
            self._offset = now - self._last
        elif late < 0:
            time.sleep(-late)
