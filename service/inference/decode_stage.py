"""The decode stage: encoded bytes to pixels before every pipeline, and pixels to drawn pictures after it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from engines.poses import Frame, Poses
from service.batching import Batcher, OverloadedError
from service.inference.client_slots import ClientSlots
from service.inference.stage import InferenceOptions, PendingFrame, Timing, submit
from service.inference.video_stage import VideoStage
from service.media.decode import DecodedImage, ImageLimits, recognise
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds, DecoderEndedError, DecoderProcess
from service.media.draw import DrawOptions
from service.media.image_files import IMAGES, ImageError
from service.media.jpeg import JpegFile, UnusualJpegError
from service.media.pictures import draw_picture
from service.media.pixels import reduced
from service.quota import Lease

_GRACE_S = 0.25
"""How much longer an abandoned picture may take before its process is killed: starting a new one takes longer."""
_MEMORY_SHARE = 0.375
"""The part of this process's memory that all decoder processes together may use."""
_BASE_BYTES, _BYTES_PER_PIXEL = 64_000_000, 18
"""The most memory that a decoder process takes: a base, and an amount per pixel of a WebP, the costliest format."""
_PICTURE_COPIES = 3
"""The memory of a picture to draw on, in sizes of its pixels: these, the encoder's output and a copy of that. While
people are drawn, there are these, a layer, and without a background the drawing on white."""
_DRAW_NICE = 15
"""Drawing gets a tenth of the processor time of a worker of a network: encoding a large PNG takes up to a second."""
_PIXELS_PER_SECOND = 5_000_000
"""The least number of pixels decoded in a second of processor time. Usual files are decoded three times as fast."""


def decoder_pool(limits: ImageLimits, memory: int, cores: int, *, time_factor: int = 1) -> DecoderPool:
    """The decoder processes for a program that may use `memory` bytes and `cores` CPU cores.

    At least two, so that a slow picture leaves one for others. All of them together may use no more than _MEMORY_SHARE
    of `memory`; if that is not enough for the largest pictures, these are refused.
    time_factor: a picture may take this many times the usual time.
    """
    part = int(memory * _MEMORY_SHARE)
    wanted = _BASE_BYTES + limits.max_bytes + _BYTES_PER_PIXEL * limits.max_pixels
    size = max(2, min(cores, part // wanted))
    seconds = time_factor * max(5, limits.max_pixels // _PIXELS_PER_SECOND)
    return DecoderPool(size, Bounds(min(wanted, part // size), seconds, 12.0 * seconds))


@dataclass(frozen=True, slots=True)
class _JpegJob:
    """A JPEG to decode on a thread. whole: keep all of its pixels, too."""

    file: JpegFile
    needs: tuple[int, int]
    whole: bool


@dataclass(slots=True, eq=False)
class _ProcessJob:
    """A picture for a decoder process. lease: counts the memory of its pixels, on `loop`, the event loop.

    timeout: seconds that the event loop may take to count it. abandoned: the lease may have been released.
    """

    kind: str
    data: bytes
    needs: tuple[int, int]
    whole: bool
    lease: Lease | None
    loop: asyncio.AbstractEventLoop
    timeout: float
    abandoned: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: DecoderProcess | None = None

    def given_to(self, process: DecoderProcess | None) -> None:
        """Set the process that decodes this picture, or None when it has ended."""
        with self._lock:
            self._process = process

    def kill(self) -> None:
        """Kill the process that decodes this picture, if there is one."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def reserve(self, size: int) -> None:
        """Count `size` bytes of pixels; called on the thread that waits for the process.

        Raises QuotaExceededError if there is no memory for them.
        """
        if self.lease is not None:
            counted: Future[None] = Future()
            self.loop.call_soon_threadsafe(self._count, size, counted)
            counted.result(self.timeout)

    def _count(self, size: int, counted: Future[None]) -> None:
        try:
            if not self.abandoned:
                _grow(self.lease, _PICTURE_COPIES * size if self.whole else size)
        except OverloadedError as refusal:
            counted.set_exception(refusal)
        else:
            counted.set_result(None)


@dataclass(frozen=True, slots=True, eq=False)
class _DrawJob:
    """People to draw on a frame, which is overwritten, and the media type of the picture. blurred: their faces are."""

    frame: Frame
    poses: Poses
    media_type: str
    look: DrawOptions
    blurred: Poses | None


@dataclass(frozen=True, slots=True)
class QuickImage:
    """A small JPEG that is not decoded yet. width, height: as displayed. scale: by which `frame` is reduced."""

    frame: PendingFrame
    width: int
    height: int
    scale: int

    def decoded(self) -> DecodedImage:
        """The decoded image."""
        return DecodedImage(self.frame.pixels(), self.width, self.height, self.scale)


class DecodeStage:
    """Decodes the images of all pipelines, and draws the pictures that clients request.

    JPEGs are decoded on `workers` threads behind one Batcher. Native code in a thread cannot be stopped, so all other
    formats are decoded by the processes of `pool`, behind a second Batcher with one thread for each process. A client
    may use no more than `share` of the processes at once, nor of the threads that wait for those of live video.
    Pictures are drawn behind a third Batcher.

    A small JPEG for an idle pipeline is decoded at once, on the event loop, which is idle too: a hand-over to another
    thread and back would take about as long as the decoding.
    """

    def __init__(
        self,
        limits: ImageLimits,
        workers: int,
        open_queue: Callable[..., Batcher[Any, Any]],
        pool: DecoderPool,
        *,
        share: float = 1.0,
    ) -> None:
        # A client's image must not make a queue appear hung: its process is killed long before that.
        hang_after = 2 * pool.bounds.wall_seconds
        self.batcher: Batcher[_JpegJob, DecodedImage] = open_queue(
            _decode_jpegs, "decode", max_batch=1, workers=workers, hang_after=hang_after
        )
        self.processes: Batcher[_ProcessJob, DecodedImage] = open_queue(
            self._decode_in_processes, "decode-process", max_batch=1, workers=pool.size, hang_after=hang_after
        )
        self.drawing: Batcher[_DrawJob, bytes] = open_queue(
            _draw, "draw", max_batch=1, workers=max(1, workers // 2), hang_after=hang_after, nice=_DRAW_NICE
        )
        self.video = VideoStage(limits, workers, open_queue, share=share)
        self.pool = pool
        self._limits = limits
        self._slots = ClientSlots(max(1, int(pool.size * share)))

    def queue_for(self, data: bytes) -> Batcher[Any, Any]:
        """The queue that an image will probably pass."""
        return self.batcher if data[:3] == b"\xff\xd8\xff" else self.processes

    def recognise(self, data: bytes, accepted: Collection[str]) -> tuple[str, JpegFile | None]:
        """See `service.media.decode.recognise`, with the limits of this stage."""
        return recognise(data, self._limits, accepted)

    def defer(self, file: JpegFile, needs: tuple[int, int], options: InferenceOptions) -> QuickImage:
        """A quick JPEG, to be decoded by a network's worker. Its memory is counted in `options.lease`.

        Raises QuotaExceededError.
        """
        _grow(options.lease, file.peak_bytes(needs))
        width, height, scale = file.decoded_size(needs)
        frame = PendingFrame((height, width, 3), lambda: file.decode(needs).pixels)
        return QuickImage(frame, *file.upright_size, scale)

    async def decode(
        self,
        data: bytes,
        needs: tuple[int, int],
        options: InferenceOptions,
        *,
        idle: bool,
        whole: bool = False,
        accepted: Collection[str] = IMAGES,
        recognised: tuple[str, JpegFile | None] | None = None,
    ) -> tuple[DecodedImage, Timing]:
        """The pixels of an encoded image. Their memory is counted in `options.lease` before it is used.

        needs: see `service.media.decode.decode`. idle: the pipeline has no other work. whole: decode all pixels, too,
        and count the memory for an encoded picture of them. accepted: kinds of files.
        recognised: what `recognise` has returned for them, if it was called already.
        Raises ImageError for bytes that are not an image within the limits, QuotaExceededError if there is no memory
        for its pixels, OverloadedError if its process died, and what `Batcher.submit` raises.
        """
        started = time.perf_counter()
        kind, file = recognised or self.recognise(data, accepted)
        if file is not None:
            counted = _grow(options.lease, _PICTURE_COPIES * file.peak_bytes(None) if whole else file.peak_bytes(needs))
            try:
                if idle and file.quick and not whole:
                    image, timing = file.decode(needs), Timing(prepare=time.perf_counter() - started)
                else:
                    image, timing = await _submit(self.batcher, _JpegJob(file, needs, whole), options)
            except UnusualJpegError:
                _grow(options.lease, -counted)
            else:
                if not whole:
                    _grow(options.lease, image.pixels.nbytes - counted)
                return image, timing
        return await self._submit_to_process(kind, data, needs, options, whole=whole)

    async def draw(
        self,
        frame: Frame,
        poses: Poses,
        media_type: str,
        options: InferenceOptions,
        *,
        look: DrawOptions | None = None,
        blurred: Poses | None = None,
    ) -> tuple[bytes, Timing]:
        """Draw people on `frame`, which is overwritten. Returns the encoded picture. Raises what `Batcher.submit` does.

        blurred: people whose faces are blurred, also if they are not drawn.
        The memory that `decode` counted in `options.lease` is reduced to the size of the picture.
        """
        content, timing = await _submit(self.drawing, _DrawJob(frame, poses, media_type, look or {}, blurred), options)
        if options.lease is not None:
            _grow(options.lease, min(0, len(content) - _PICTURE_COPIES * frame.nbytes))
        return content, timing

    def release(self) -> None:
        """End the idle decoder processes."""
        self.pool.trim()

    async def _submit_to_process(
        self, kind: str, data: bytes, needs: tuple[int, int], options: InferenceOptions, *, whole: bool
    ) -> tuple[DecodedImage, Timing]:
        loop = asyncio.get_running_loop()
        job = _ProcessJob(kind, data, needs, whole, options.lease, loop, self.pool.bounds.wall_seconds)
        release = await self._acquire_slot(options)

        def end() -> None:
            job.kill()
            release()

        try:
            result = await _submit(self.processes, job, options)
        except (ImageError, OverloadedError):
            release()
            raise
        except DecoderEndedError as error:
            release()
            raise OverloadedError(str(error), reason="decoder", retry_after_s=1.0) from error
        except BaseException:  # cancelled, or the deadline passed: the process is needed for others
            job.abandoned = True
            loop.call_later(_GRACE_S, end)
            raise
        release()
        return result

    async def _acquire_slot(self, options: InferenceOptions) -> Callable[[], None]:
        """As `ClientSlots.acquire`."""
        if options.admitted:  # the caller limits its own concurrency
            return lambda: None
        return await self._slots.acquire(options)

    def _decode_in_processes(self, jobs: Sequence[_ProcessJob]) -> Sequence[DecodedImage]:
        return [self._decode_in_process(job) for job in jobs]

    def _decode_in_process(self, job: _ProcessJob) -> DecodedImage:
        needs = None if job.whole else job.needs
        image = self.pool.decode(job.kind, job.data, self._limits, needs, reserve=job.reserve, given_to=job.given_to)
        return _with_whole(image, job.needs) if job.whole else image


def _decode_jpegs(jobs: Sequence[_JpegJob]) -> Sequence[DecodedImage]:
    return [_with_whole(job.file.decode(None), job.needs) if job.whole else job.file.decode(job.needs) for job in jobs]


def _with_whole(image: DecodedImage, needs: tuple[int, int]) -> DecodedImage:
    return replace(reduced(image, needs), whole=image.pixels)


def _draw(jobs: Sequence[_DrawJob]) -> Sequence[bytes]:
    return [draw_picture(job.frame, job.poses, job.media_type, job.look, job.blurred) for job in jobs]


def _grow(lease: Lease | None, size: int) -> int:
    if lease is not None:
        lease.grow(size)
    return size


async def _submit(batcher: Batcher[Any, Any], job: object, options: InferenceOptions) -> tuple[Any, Timing]:
    result = await submit(batcher, job, options)
    return result.value, Timing(queue=result.queued_s, prepare=result.ran_s)
