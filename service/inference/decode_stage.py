"""From encoded bytes to pixels in front of every pipeline, and from pixels to pictures behind it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from engines.poses import Frame, Poses
from service.batching import Batcher, DeadlineExceededError, OverloadedError
from service.inference.stage import InferenceOptions, Timing
from service.media.decode import DecodedImage, ImageLimits, recognise
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds, DecoderEndedError, DecoderProcess
from service.media.draw import draw
from service.media.image_files import IMAGES, ImageError
from service.media.jpeg import JpegFile, UnusualJpegError
from service.media.pixels import encode, reduced
from service.quota import Lease

_GRACE_S = 0.25
"""A picture that nobody waits for any more may take so much longer: starting another process takes longer still."""
_MEMORY_SHARE = 0.375
"""Of what this process may use: the part for decoder processes."""
_BASE_BYTES, _BYTES_PER_PIXEL = 64_000_000, 18
"""What a decoder process takes at most: itself, with a file, and for each pixel of a WebP, which takes the most."""
_PICTURE_COPIES = 3
"""What a picture to be drawn on takes, in sizes of its pixels: these, the encoder's output and a copy of that."""
_PIXELS_PER_SECOND = 5_000_000
"""How many pixels a second of processor time is enough for: a third of what usual files need."""


def decoder_pool(limits: ImageLimits, memory: int, cores: int, *, patience: int = 1) -> DecoderPool:
    """The decoder processes for a program that may use so many bytes and cores.

    At least two, so that a picture which takes long leaves one for others. All of them together may use no more than
    _MEMORY_SHARE of `memory`; where that is not enough for the largest pictures, these are refused.
    patience: how many times the usual time a picture may take.
    """
    part = int(memory * _MEMORY_SHARE)
    wanted = _BASE_BYTES + limits.max_bytes + _BYTES_PER_PIXEL * limits.max_pixels
    size = max(2, min(cores, part // wanted))
    seconds = patience * max(5, limits.max_pixels // _PIXELS_PER_SECOND)
    return DecoderPool(size, Bounds(min(wanted, part // size), seconds, 12.0 * seconds))


@dataclass(frozen=True, slots=True)
class _JpegJob:
    """A light JPEG. whole: all of its pixels are wanted, too."""

    file: JpegFile
    needs: tuple[int, int]
    whole: bool


@dataclass(slots=True, eq=False)
class _ProcessJob:
    """A picture for a decoder process. reserve: raises where there is no memory for so many bytes of pixels."""

    kind: str
    data: bytes
    needs: tuple[int, int]
    whole: bool
    reserve: Callable[[_ProcessJob, int], None]
    abandoned: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: DecoderProcess | None = None

    def given_to(self, process: DecoderProcess | None) -> None:
        """Called when a process begins with it, and with None when it has ended."""
        with self._lock:
            self._process = process

    def kill(self) -> None:
        """End the process that is at it, if one still is."""
        with self._lock:
            if self._process is not None:
                self._process.kill()


@dataclass(frozen=True, slots=True, eq=False)
class _DrawJob:
    """People to draw on a frame, which is written on, and the media type of the picture."""

    frame: Frame
    poses: Poses
    media_type: str


@dataclass(slots=True)
class _Turn:
    room: asyncio.Semaphore
    users: int = 0


class Decoder:
    """Decodes the images of all pipelines, and draws the pictures that clients want.

    JPEGs are decoded on `workers` threads behind one Batcher. Native code cannot be stopped in a thread, so whatever
    else clients send is decoded by the processes of `pool`, behind another: one thread waits for each process. A client
    may use no more than `share` of them at once. Pictures are drawn behind a third Batcher.

    A small JPEG for an idle pipeline is decoded at once, on the event loop, which nobody else wants then: the way to
    another thread and back would take about as long as the decoding.
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
        # What clients send must not make a queue look hung: a process is ended long before that.
        patience = 2 * pool.bounds.wall_seconds
        self.batcher: Batcher[_JpegJob, DecodedImage] = open_queue(
            _decode_jpegs, "decode", max_batch=1, workers=workers, hang_after=patience
        )
        self.processes: Batcher[_ProcessJob, DecodedImage] = open_queue(
            self._decode_others, "decode-process", max_batch=1, workers=pool.size, hang_after=patience
        )
        self.drawing: Batcher[_DrawJob, bytes] = open_queue(
            _draw, "draw", max_batch=1, workers=max(1, workers // 2), hang_after=patience
        )
        self.pool = pool
        self._limits = limits
        self._most_per_client = max(1, int(pool.size * share))
        self._turns: dict[str, _Turn] = {}

    def queue_for(self, data: bytes) -> Batcher[Any, Any]:
        """The queue that an image will most probably wait in."""
        return self.batcher if data[:3] == b"\xff\xd8\xff" else self.processes

    async def decode(
        self,
        data: bytes,
        needs: tuple[int, int],
        options: InferenceOptions,
        *,
        idle: bool,
        whole: bool = False,
        accepted: Collection[str] = IMAGES,
    ) -> tuple[DecodedImage, Timing]:
        """The pixels of an encoded image, which count in `ask.lease` before they are there.

        needs: see `imaging.decode`. idle: the pipeline that asks has nothing else to do. whole: decode all pixels, too,
        and count the memory for an encoded picture of them. accepted: kinds of files.
        Raises ImageError for bytes that are no picture within the limits, QuotaExceededError where their pixels find no
        memory, OverloadedError where a process was lost, and what `Batcher.submit` raises.
        """
        started = time.perf_counter()
        kind, file = recognise(data, self._limits, accepted)
        if file is not None:
            held = _hold(options.lease, _PICTURE_COPIES * file.peak_bytes(None) if whole else file.peak_bytes(needs))
            try:
                if idle and file.quick and not whole:
                    image, timing = file.decode(needs), Timing(prepare=time.perf_counter() - started)
                else:
                    image, timing = await _submit(self.batcher, _JpegJob(file, needs, whole), options)
            except UnusualJpegError:
                _hold(options.lease, -held)
            else:
                if not whole:
                    _hold(options.lease, image.pixels.nbytes - held)
                return image, timing
        return await self._in_process(kind, data, needs, options, whole=whole)

    async def draw(
        self, frame: Frame, poses: Poses, media_type: str, options: InferenceOptions
    ) -> tuple[bytes, Timing]:
        """The bytes of a picture: people drawn on `frame`, which may be written on. Raises what `Batcher.submit` does.

        What `decode` counted in `ask.lease` is reduced to the size of the picture.
        """
        content, timing = await _submit(self.drawing, _DrawJob(frame, poses, media_type), options)
        if options.lease is not None:
            _hold(options.lease, min(0, len(content) - _PICTURE_COPIES * frame.nbytes))
        return content, timing

    def release(self) -> None:
        """End the processes that decode nothing now."""
        self.pool.trim()

    async def _in_process(
        self, kind: str, data: bytes, needs: tuple[int, int], options: InferenceOptions, *, whole: bool
    ) -> tuple[DecodedImage, Timing]:
        loop = asyncio.get_running_loop()

        def reserve(job: _ProcessJob, size: int) -> None:
            """Called on the thread that waits for the process; a lease belongs to the event loop."""
            if options.lease is None:
                return
            done: Future[None] = Future()

            def on_loop() -> None:
                try:
                    if not job.abandoned:  # or else the lease has been given back
                        _hold(options.lease, _PICTURE_COPIES * size if whole else size)
                except OverloadedError as refusal:
                    done.set_exception(refusal)
                else:
                    done.set_result(None)

            loop.call_soon_threadsafe(on_loop)
            done.result(self.pool.bounds.wall_seconds)

        job = _ProcessJob(kind, data, needs, whole, reserve)
        leave = await self._take_turn(options)

        def end() -> None:
            job.kill()
            leave()

        try:
            result = await _submit(self.processes, job, options)
        except (ImageError, OverloadedError):
            leave()
            raise
        except DecoderEndedError as error:
            leave()
            raise OverloadedError(str(error), reason="decoder", retry_after_s=1.0) from error
        except BaseException:  # its client has left, or its deadline passed: the process shall serve others
            job.abandoned = True
            loop.call_later(_GRACE_S, end)
            raise
        leave()
        return result

    async def _take_turn(self, options: InferenceOptions) -> Callable[[], None]:
        """Wait until this client uses less than its share of the processes. Returns what gives the turn back.

        Raises DeadlineExceededError.
        """
        if options.admitted:  # its caller bounds what is under way
            return lambda: None
        client = options.client if options.lease is None else options.lease.client
        turn = self._turns.setdefault(client, _Turn(asyncio.Semaphore(self._most_per_client)))
        turn.users += 1

        def forget() -> None:
            turn.users -= 1
            if not turn.users:
                del self._turns[client]

        def leave() -> None:
            turn.room.release()
            forget()

        try:
            async with asyncio.timeout(None if options.deadline is None else options.deadline - time.monotonic()):
                await turn.room.acquire()
        except TimeoutError as error:
            forget()
            raise DeadlineExceededError("the deadline passed behind other images of this client") from error
        except BaseException:
            forget()
            raise
        return leave

    def _decode_others(self, jobs: Sequence[_ProcessJob]) -> Sequence[DecodedImage]:
        return [self._decode_other(job) for job in jobs]

    def _decode_other(self, job: _ProcessJob) -> DecodedImage:
        needs = None if job.whole else job.needs
        reserve = partial(job.reserve, job)
        image = self.pool.decode(job.kind, job.data, self._limits, needs, reserve=reserve, given_to=job.given_to)
        return _with_whole(image, job.needs) if job.whole else image


def _decode_jpegs(jobs: Sequence[_JpegJob]) -> Sequence[DecodedImage]:
    return [_with_whole(job.file.decode(None), job.needs) if job.whole else job.file.decode(job.needs) for job in jobs]


def _with_whole(image: DecodedImage, needs: tuple[int, int]) -> DecodedImage:
    return replace(reduced(image, needs), whole=image.pixels)


def _draw(jobs: Sequence[_DrawJob]) -> Sequence[bytes]:
    return [encode(draw(job.frame, job.poses, in_place=True), job.media_type, in_place=True) for job in jobs]


def _hold(lease: Lease | None, size: int) -> int:
    if lease is not None:
        lease.grow(size)
    return size


async def _submit(batcher: Batcher[Any, Any], job: object, options: InferenceOptions) -> tuple[Any, Timing]:
    served = await batcher.submit(
        job,
        priority=options.priority,
        client=options.client,
        deadline=options.deadline,
        admitted=options.admitted,
        reservation=options.reservations.get(batcher.name),
    )
    return served.value, Timing(queue=served.queued_s, prepare=served.ran_s)
