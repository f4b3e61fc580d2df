"""A stage of a pipeline: a compiled network, the family that reads its outputs, and the Batcher where requests meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engines.crops.views import View
from engines.inputs import Arrays, PixelInput
from engines.ops.affine import align
from engines.poses import Frame, Region
from engines.runtimes.base import Runtime, RuntimeClosedError
from service.batching import Batcher, BatchResult, Priority, Reservation
from service.quota import Lease

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """The options of one inference request.

    client: the unit of fairness and quotas. deadline: on the monotonic clock, seconds. min_score: 0..1.
    admitted: skips admission control; the caller limits its own concurrency. reservations: made by admission, by the
    Batcher's name. lease: counts the memory of the image's pixels until the caller releases it; None counts nothing.
    """

    client: str = ""
    priority: Priority = Priority.STILL
    deadline: float | None = None
    max_people: int = 50
    min_score: float = 0.3
    admitted: bool = False
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """The time spent on one image, in seconds of wall time per step."""

    queue: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    decode: float = 0.0

    def parts(self) -> dict[str, float]:
        """The steps by name."""
        return {"queue": self.queue, "prepare": self.prepare, "infer": self.infer, "decode": self.decode}

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.queue + other.queue,
            self.prepare + other.prepare,
            self.infer + other.infer,
            self.decode + other.decode,
        )


@dataclass(frozen=True, slots=True)
class CropRequest:
    """A region of a frame to crop for a network. Counts as one work unit."""

    frame: Frame
    region: Region


@dataclass(frozen=True, slots=True)
class StageOutput(Generic[Result]):
    """The decoded result for one crop request, and the time of its batch (timing.queue is not known here)."""

    value: Result
    timing: Timing


class Stage(Generic[Result]):
    """Runs the network on batches of waiting crop requests, and decodes each batch at once.

    pixels: the network's input. view: crops regions and runs `runtime` on them. decode: (outputs, regions) to one
    result per region.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        pixels: PixelInput,
        view: View,
        decode: Callable[[Arrays, Sequence[Region]], Sequence[Result]],
        open_queue: Callable[..., Batcher[CropRequest, StageOutput[Result]]],
    ) -> None:
        self.name = name
        self.batcher = open_queue(
            self._run_batch,
            name,
            max_batch=runtime.spec.max_batch,
            batch_sizes=runtime.spec.batch_sizes,
            workers=runtime.spec.concurrency,
        )
        self._pixels = pixels
        self._network = (runtime, view)
        self._decode = decode

    @property
    def runtime(self) -> Runtime:
        """The runtime that runs the network now."""
        return self._network[0]

    def switch(self, runtime: Runtime, view: View) -> Runtime:
        """Run the network with `runtime` from the next batch on. Returns the previous runtime, for the caller to close.

        No request is blocked: the previous runtime ends the batches that it has begun, and a batch that reaches it
        after it was closed goes to the new one. If this raises, the previous runtime goes on as before.
        """
        old = self._network
        self._network = (runtime, view)
        try:
            self._reshape(runtime)
        except BaseException:
            self._network = old
            self._reshape(old[0])
            raise
        return old[0]

    def _reshape(self, runtime: Runtime) -> None:
        self.batcher.reshape(runtime.spec.max_batch, runtime.spec.batch_sizes, runtime.spec.concurrency)

    async def run(
        self, frame: Frame, regions: Sequence[Region], options: InferenceOptions
    ) -> tuple[list[Result], Timing]:
        """Run the network on `regions` of a frame. Returns their results in order, and the timing of the slowest."""
        height, width = frame.shape[:2]
        results = await self.batcher.submit_all(
            [CropRequest(frame, align(region, width, height, self._pixels)) for region in regions],
            priority=options.priority,
            client=options.client,
            deadline=options.deadline,
            admitted=options.admitted,
            reservation=options.reservations.get(self.batcher.name),
        )
        return [result.value.value for result in results], _slowest(results)

    def _run_batch(self, crops: Sequence[CropRequest]) -> Sequence[StageOutput[Result]]:
        while True:
            runtime, view = self._network
            largest = runtime.spec.max_batch  # the batch may have been formed for a runtime with larger batches
            try:
                return [
                    output
                    for start in range(0, len(crops), largest)
                    for output in self._infer(view, crops[start : start + largest])
                ]
            except RuntimeClosedError:
                if runtime is self.runtime:
                    raise

    def _infer(self, view: View, crops: Sequence[CropRequest]) -> list[StageOutput[Result]]:
        started = time.perf_counter()
        regions = [crop.region for crop in crops]
        inferred = view([crop.frame for crop in crops], regions)
        done = time.perf_counter()
        results = self._decode(inferred.outputs, regions)
        decoded = time.perf_counter()
        timing = Timing(0.0, inferred.preparing, done - started - inferred.preparing, decoded - done)
        return [StageOutput(result, timing) for result in results]


def _slowest(results: Sequence[BatchResult[StageOutput[Result]]]) -> Timing:
    if not results:
        return Timing()
    last = max(results, key=lambda result: result.queued_s + result.ran_s)
    return last.value.timing + Timing(queue=last.queued_s)
