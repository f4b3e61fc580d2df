"""Decoding the compressed video of streams: one process for each stream, behind a queue that all streams share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from service.batching import Batcher, OverloadedError
from service.inference.client_slots import ClientSlots
from service.inference.stage import InferenceOptions, Timing, submit
from service.media.decoder_process import Bounds, DecoderEndedError
from service.media.image_files import ImageError, ImageLimits
from service.media.pixels import DecodedImage, reduced
from service.media.video_decoder import VideoCodec, VideoDecoder
from service.quota import Lease, QuotaExceededError

PROCESS_BYTES = 64_000_000
"""The memory of a decoder before it has any picture, which is counted as long as a stream has one."""
_BYTES_PER_PIXEL = 30
"""Pictures that a decoder refers to: up to 16 of 1.5 bytes a pixel, one in RGB, and what it works with."""
_MOST_PIXELS = 9_500_000
"""Of a picture of a live video, 4096 x 2304, if the settings allow so many. It bounds what a decoder may allocate
before the size of its pictures is known and counted.
"""
_CPU_SECONDS = 3
"""The processor time of the chunks that wait together: 90 at most, which take a tenth of that at 1280x720."""
_WALL_SECONDS = 20.0


@dataclass(slots=True, eq=False)
class _ChunksJob:
    """Chunks to decode in a stream's process. `reserve` is called with the size of the picture in bytes."""

    decoder: StreamDecoder
    generation: int
    chunks: Sequence[bytes]
    needs: tuple[int, int]
    reserve: Callable[[int], None]


class VideoStage:
    """Decodes the chunks of all streams, on threads that wait for the streams' processes: two for each of `workers`, so
    that streams whose chunks take long do not hold others up. A client's streams may use no more than `share` of these.
    """

    def __init__(
        self, limits: ImageLimits, workers: int, open_queue: Callable[..., Batcher[Any, Any]], *, share: float = 1.0
    ) -> None:
        self._limits = limits = replace(limits, max_pixels=min(limits.max_pixels, _MOST_PIXELS))
        self._bounds = Bounds(
            PROCESS_BYTES + limits.max_bytes + _BYTES_PER_PIXEL * limits.max_pixels, _CPU_SECONDS, _WALL_SECONDS
        )
        threads = max(4, 2 * workers)
        self._slots = ClientSlots(max(1, int(threads * share)))
        self.batcher: Batcher[_ChunksJob, DecodedImage | None] = open_queue(
            self._decode, "decode-video", max_batch=1, workers=threads, hang_after=2 * _WALL_SECONDS
        )

    def open(self, codec: VideoCodec, lease: Lease | None) -> StreamDecoder:
        """The decoder of a stream, to be closed at its end. lease: counts its memory."""
        return StreamDecoder(codec, self.batcher, self._slots, lease)

    def _decode(self, jobs: Sequence[_ChunksJob]) -> Sequence[DecodedImage | None]:
        return [job.decoder.run(job, self._limits, self._bounds) for job in jobs]


class StreamDecoder:
    """Decodes one stream. Only one call of `decode` at a time. A context manager.

    needs_key: the next chunk must be a key frame, as the decoder's state is lost.
    """

    def __init__(
        self,
        codec: VideoCodec,
        batcher: Batcher[_ChunksJob, DecodedImage | None],
        slots: ClientSlots,
        lease: Lease | None,
    ) -> None:
        self.needs_key = False
        self._codec = codec
        self._batcher = batcher
        self._slots = slots
        self._lease = lease
        self._process: VideoDecoder | None = None
        self._using = threading.Lock()  # held by the thread that waits for the process
        self._generation = 0  # of processes: a job is for one, and must not touch the next one's

    @property
    def pid(self) -> int | None:
        """Of its process; None while it has none."""
        return None if self._process is None else self._process.pid

    async def decode(
        self, chunks: Sequence[bytes], needs: tuple[int, int], options: InferenceOptions
    ) -> tuple[DecodedImage | None, Timing]:
        """Decode chunks in order. Returns the last picture, reduced as `needs` allows, or None if there is none.

        The picture's memory is counted in `options.lease`. Raises ImageError, OverloadedError if there is no memory, or
        the process died, and what `Batcher.submit` raises. After any of these, `needs_key` is set.
        """
        loop = asyncio.get_running_loop()

        def reserve(size: int) -> None:
            counted: Future[None] = Future()
            loop.call_soon_threadsafe(self._count, size, options.lease, counted)
            counted.result(_WALL_SECONDS)

        self.needs_key = True
        job = _ChunksJob(self, self._generation, chunks, needs, reserve)
        try:
            release = await self._slots.acquire(options)
            try:
                result = await submit(self._batcher, job, options)
            finally:
                release()
        except DecoderEndedError as error:
            raise OverloadedError(str(error), reason="decoder", retry_after_s=1.0) from error
        except ImageError:
            raise
        except BaseException:  # cancelled, or too late: a thread may still wait for the process
            self._generation += 1
            if self._using.locked() and self._process is not None:
                self._process.kill()
            raise
        self.needs_key = False
        return result.value, Timing(queue=result.queued_s, prepare=result.ran_s)

    def run(self, job: _ChunksJob, limits: ImageLimits, bounds: Bounds) -> DecodedImage | None:
        """Do a job, on a thread that may block."""
        with self._using:
            if job.generation != self._generation:
                raise DecoderEndedError("the stream has ended")
            if self._process is None:
                try:
                    self._process = VideoDecoder(self._codec, bounds)
                except OSError as error:
                    raise DecoderEndedError(f"no decoder process can be started: {error.strerror}") from error
            try:
                if job.generation != self._generation:  # ended while the process started
                    raise DecoderEndedError("the stream has ended")
                image = self._process.decode_chunks(job.chunks, limits, job.reserve)
            except BaseException as error:
                if not (isinstance(error, ImageError) and self._process.alive):
                    self._discard()
                raise
        return None if image is None else reduced(image, job.needs)

    def _count(self, size: int, lease: Lease | None, counted: Future[None]) -> None:
        """Count a picture of `size` bytes in its lease, and what a decoder of such pictures needs in the stream's."""
        try:
            if self._lease is not None:
                self._lease.grow(PROCESS_BYTES + _BYTES_PER_PIXEL * size // 3 - self._lease.amount)
            if lease is not None:
                lease.grow(size)
        except QuotaExceededError as refusal:
            counted.set_exception(refusal)
        else:
            counted.set_result(None)

    def close(self) -> None:
        """End the process; the next chunks would start another. A thread that waits for it gets an error."""
        self._generation += 1
        if self._using.acquire(blocking=False):
            try:
                self._discard()
            finally:
                self._using.release()
        elif (process := self._process) is not None:
            process.kill()  # the thread that uses it discards it

    def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def __enter__(self) -> StreamDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
