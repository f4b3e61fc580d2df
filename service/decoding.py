"""From encoded bytes to pixels, in front of every pipeline."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.batching import Batcher
from service.imaging.decode import DecodedImage, Limits, decode, decode_if_quick
from service.stages import Ask, Timing


@dataclass(frozen=True, slots=True)
class _Job:
    """An encoded image, and the (width, height) of which its pipeline needs one to be filled."""

    data: bytes
    needs: tuple[int, int]


class Decoder:
    """Decodes the images of all pipelines, on `workers` threads behind one Batcher.

    A small image for an idle pipeline is decoded at once, on the event loop, which nobody else wants then: the way to
    another thread and back would take about as long as the decoding.
    """

    def __init__(self, limits: Limits, workers: int, open_queue: Callable[..., Batcher[_Job, DecodedImage]]) -> None:
        # How long decoding takes depends on what a client sent, and must not make the server unready.
        self.batcher = open_queue(self._run, "decode", max_batch=1, workers=workers, hang_after=math.inf)
        self._limits = limits

    async def decode(self, data: bytes, needs: tuple[int, int], ask: Ask, *, idle: bool) -> tuple[DecodedImage, Timing]:
        """The pixels of an encoded image. idle: the pipeline that asks has nothing else to do.

        Raises ImageError for bytes that are no picture within the limits, and what `Batcher.submit` raises.
        """
        if idle:
            started = time.perf_counter()
            image = decode_if_quick(data, self._limits, needs=needs)
            if image is not None:
                return image, Timing(prepare=time.perf_counter() - started)
        served = await self.batcher.submit(
            _Job(data, needs),
            priority=ask.priority,
            client=ask.client,
            deadline=ask.deadline,
            admitted=ask.admitted,
            place=ask.places.get(self.batcher.name),
        )
        return served.value, Timing(queue=served.queued_s, prepare=served.ran_s)

    def _run(self, jobs: Sequence[_Job]) -> Sequence[DecodedImage]:
        return [decode(job.data, self._limits, needs=job.needs) for job in jobs]
