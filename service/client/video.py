"""Compressed video for streams, which takes a fraction of the bytes of pictures. Needs the package `av`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    import numpy as np
    from numpy.typing import NDArray

    VideoFrame = NDArray[np.uint8] | av.VideoFrame
else:
    VideoFrame = Any

_RATE = 30
_REALTIME = {"deadline": "realtime", "lag-in-frames": "0", "error-resilient": "1"}
# The options that give one chunk for each frame, at once.
_ENCODERS = {
    "vp8": ("libvpx", {**_REALTIME, "cpu-used": "8"}),
    "vp9": ("libvpx-vp9", {**_REALTIME, "cpu-used": "8", "row-mt": "1"}),
    "h264": ("libx264", {"preset": "veryfast", "tune": "zerolatency", "bf": "0"}),
    "av1": ("libsvtav1", {"preset": "10", "svtav1-params": "pred-struct=1:rc=2:scd=0"}),
}
_BITS_PER_PIXEL = 0.055
"""Of a frame, with VP8: 1.5 Mbit/s at 1280x720 and 30 frames a second. Newer codecs look better at the same rate."""
_KEY_EVERY = 3600
"""Frames between two key frames that nobody has asked for. The server asks for those that it needs."""


class VideoEncoder:
    """Encodes the frames of a stream one by one, each to one chunk. The size of frames may change.

    codec: vp8, vp9, h264 or av1. Raises ValueError for others, ImportError if `av` is not installed. Thread-safe.
    """

    def __init__(self, codec: str, bits_per_pixel: float = _BITS_PER_PIXEL) -> None:
        if codec not in _ENCODERS:
            raise ValueError(f"video: {codec!r} is none of {', '.join(_ENCODERS)}")
        try:
            import av
        except ImportError as error:
            raise ImportError("streams of video need the package av: pip install 'posewire-client[video]'") from error
        self._av = av
        self._codec = codec
        self._bits_per_pixel = bits_per_pixel
        self._context: av.VideoCodecContext | None = None
        self._count = 0
        self._lock = threading.Lock()
        self._key = threading.Event()

    def want_key_frame(self) -> None:
        """Make the next chunk a key frame."""
        self._key.set()

    def encode(self, picture: VideoFrame) -> bytes:
        """Encode a frame, (h, w, 3) uint8 RGB or a frame of `av`. Returns a byte of flags and the chunk.

        Raises ValueError if the encoder gives no chunk for it.
        """
        with self._lock:
            if isinstance(picture, self._av.VideoFrame):
                frame = picture
            else:
                frame = self._av.VideoFrame.from_ndarray(picture, "rgb24")
            width, height = (size - size % 2 or 2 for size in (frame.width, frame.height))
            frame = frame.reformat(width, height, "yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            context = self._context
            if context is None or (context.width, context.height) != (width, height) or self._key.is_set():
                # A new encoder begins with a key frame, whatever the codec; not all obey requests for one.
                self._key.clear()
                context = self._context = self._open(width, height)
                self._count = 0
            frame.pts, frame.time_base = self._count, Fraction(1, _RATE)
            frame.pict_type = self._av.video.frame.PictureType.NONE
            self._count += 1
            packets = context.encode(frame)
            if not packets:
                raise ValueError(f"the encoder of {self._codec} gave no chunk")
            key = any(packet.is_keyframe for packet in packets)
            return bytes([key]) + b"".join(bytes(packet) for packet in packets)

    def _open(self, width: int, height: int) -> av.VideoCodecContext:
        name, options = _ENCODERS[self._codec]
        context = self._av.CodecContext.create(name, "w")
        assert isinstance(context, self._av.VideoCodecContext)  # noqa: S101 - of a video codec
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base, context.framerate = Fraction(1, _RATE), Fraction(_RATE)
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # limited
        context.bit_rate = max(100_000, int(self._bits_per_pixel * width * height * _RATE))
        context.gop_size = _KEY_EVERY
        context.thread_count = 1  # several may hold frames back
        context.options = options
        return context


def read_frames(path: Path | str) -> Iterator[VideoFrame]:
    """Yield the frames of a video file, for a stream with `video`. Needs `av`, and raises its errors."""
    import av

    with av.open(f"file:{path}") as file:
        yield from file.decode(video=0)
