"""The server's side of the process that decodes one stream's video."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from service.media.decoder_process import GO, NO, Bounds, DecoderProcess, Reserve
from service.media.decoder_wire import fill, send_document
from service.media.image_files import ImageLimits
from service.media.pixels import DecodedImage

VideoCodec = Literal["vp8", "vp9", "h264", "av1"]


class VideoDecoder(DecoderProcess):
    """A child process that decodes the chunks of one stream in order. Methods block; other threads may call `kill`."""

    def __init__(self, codec: VideoCodec, bounds: Bounds) -> None:
        """Start the process. bounds: seconds are for one call of `decode_chunks`. Raises OSError if it cannot start."""
        super().__init__(bounds, "service.media.video_child")
        self._codec = codec

    def decode_chunks(
        self, chunks: Sequence[bytes], limits: ImageLimits, reserve: Reserve | None = None
    ) -> DecodedImage | None:
        """Decode chunks. Returns the last picture, or None if they have none to show.

        reserve: see `DecoderProcess.decode`. Raises ImageError and DecoderEndedError; then the decoder has no state,
        and the next chunk must be a key frame.
        """
        stop = time.monotonic() + self._bounds.wall_seconds
        with self._conversation(f"{self._codec} video"):
            self._connection.settimeout(self._bounds.wall_seconds)
            send_document(
                self._connection,
                codec=self._codec,
                sizes=[len(chunk) for chunk in chunks],
                max_pixels=limits.max_pixels,
                max_side=limits.max_side,
            )
            for chunk in chunks:
                self._connection.sendall(chunk)
            answer = self._receive(stop)
            size, width, height = (int(answer.get(name, 0)) for name in ("bytes", "width", "height"))
            if not size:
                return None
            try:
                if min(width, height) < 1 or size != 3 * width * height or width * height > limits.max_pixels:
                    raise ValueError(f"{width} x {height} pixels in {size} bytes")
                if reserve is not None:
                    reserve(size)
            except BaseException:
                self._connection.sendall(NO)
                raise
            self._connection.sendall(GO)
            pixels = np.empty((height, width, 3), np.uint8)
            fill(self._connection, pixels.data.cast("B"))
            return DecodedImage(pixels, width, height)
