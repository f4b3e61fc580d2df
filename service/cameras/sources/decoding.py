"""Decoding a source with FFmpeg, and playing what arrives faster than it was filmed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from service.cameras.sources.errors import SourceError
from service.cameras.sources.newest import NewestFrame
from service.media.media_file import fraction

MAX_PIXELS = 1 << 25
"""Of a camera's frame: 8K."""
_JUMP_S = 2.0
"""If a source that is played is this far from its own clock, it is played on from there."""
_USUAL_RATE = 25.0
_THREADS = 2
"""Of a decoder, so that a camera of large frames takes no more than two cores."""
_MOST_FPS = 240.0
_BURST_S = 1.0
"""A source that gives more frames a second than that is slowed down, after a burst: it would take a core."""
_GPU = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source that has been opened. rate: frames a second that it declares, or None."""

    width: int
    height: int
    codec: str
    rate: float | None


Opened = Callable[[SourceInfo], None]


def read_frames(
    target: Any,
    newest: NewestFrame,
    opened: Opened,
    *,
    play: Callable[[InputContainer], bool],
    hardware: bool = False,
    progress: Callable[[], None] = lambda: None,
    **arguments: Any,
) -> None:
    """Decode a source with FFmpeg until it ends. Raises SourceError.

    play: whether to keep to the source's own clock, as it arrives faster. progress: called with each packet.
    arguments: of `av.open`.
    """
    try:
        with av.open(target, hwaccel=_accelerator() if hardware else None, **arguments) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
                raise SourceError("there is no video in it that can be decoded")
            if stream.width * stream.height > MAX_PIXELS:
                raise SourceError(f"its frames of {stream.width} x {stream.height} pixels are too large")
            stream.thread_type = "SLICE"  # frame threads would hold frames back
            stream.codec_context.thread_count = _THREADS
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            rate = fraction(stream.average_rate)
            name = stream.codec_context.name
            opened(SourceInfo(stream.width, stream.height, name, None if rate is None else float(rate)))
            player = _Player(float(rate or _USUAL_RATE)) if play(container) else None
            _decode(container, stream, newest, player, progress)
    except (av.FFmpegError, OSError) as error:
        raise SourceError(error.strerror or str(error)) from error


def _decode(
    container: InputContainer,
    stream: av.VideoStream,
    newest: NewestFrame,
    player: _Player | None,
    progress: Callable[[], None],
) -> None:
    due = time.monotonic() - _BURST_S
    for packet in container.demux(stream):
        progress()
        try:
            pictures = packet.decode()
        except av.FFmpegError:
            newest.damaged += 1
            continue
        for picture in pictures:
            if player is not None:
                player.wait(picture.time)
            newest.put(picture)
            now = time.monotonic()
            due = max(due + 1 / _MOST_FPS, now - _BURST_S)
            if due > now:
                time.sleep(due - now)


def _accelerator() -> HWAccel | None:
    """A GPU that decodes, or None. Where there is none, this costs nothing."""
    if not _GPU.exists():
        return None
    accelerator = HWAccel("cuda", allow_software_fallback=True)
    try:
        accelerator.create(av.Codec("h264", "r"))  # fails here, rather than with the source
    except (av.FFmpegError, OSError, NotImplementedError, RuntimeError):
        return None
    return accelerator


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
