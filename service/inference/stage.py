"""One stage of a pipeline: a compiled network, the family that reads it, and the Batcher where requests meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engines.crops.views import View
from engines.ops.affine import align
from engines.poses import Frame, Region
from engines.runtimes.base import Arrays, PixelInput, Runtime, RuntimeClosedError
from service.batching import Batcher, BatchResult, Priority, Reservation
from service.quota import Lease

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """What a client wants of one image.

    client: whom fairness and rates count. deadline: on the monotonic clock, seconds. min_score: 0..1.
    admitted: nothing of it is refused, as whoever asks bounds what is under way himself. places: what it holds in
    queues, by the Batcher's name. lease: where the memory of its pixels counts, until the caller releases it; None
    counts nothing.
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
    """Where the time of one image went, in seconds of wall time."""

    queue: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    decode: float = 0.0

    def parts(self) -> dict[str, float]:
        """The parts by name."""
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
    """A region of a frame that a network shall see; one work unit."""

    frame: Frame
    region: Region


@dataclass(frozen=True, slots=True)
class StageOutput(Generic[Result]):
    """What the network saw in one Look, and the time that its batch took (timing.queue is not known here)."""

    value: Result
    timing: Timing


class Stage(Generic[Result]):
    """Shows the regions that wait to the network as one batch, and decodes the batch at once.

    pixels: what the network takes. view: of the network behind `runtime`. decode: (outputs, regions) to one result per
    region.
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
            self._run,
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
        """What runs the network now."""
        return self._network[0]

    def switch(self, runtime: Runtime, view: View) -> Runtime:
        """From the next batch on let `runtime` run the network. Returns the one that did, for the caller to close.

        Blocks no request: what the old one has begun it ends, and what comes to it too late goes to the new one.
        Where it raises, the old one goes on as before.
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

    async def see(
        self, frame: Frame, regions: Sequence[Region], options: InferenceOptions
    ) -> tuple[list[Result], Timing]:
        """The results for `regions` in order, and the time they took: of the slowest, as they ran side by side."""
        height, width = frame.shape[:2]
        served = await self.batcher.submit_all(
            [CropRequest(frame, align(region, width, height, self._pixels)) for region in regions],
            priority=options.priority,
            client=options.client,
            deadline=options.deadline,
            admitted=options.admitted,
            reservation=options.reservations.get(self.batcher.name),
        )
        return [one.value.value for one in served], _slowest(served)

    def _run(self, looks: Sequence[CropRequest]) -> Sequence[StageOutput[Result]]:
        while True:
            runtime, view = self._network
            most = runtime.spec.max_batch  # a batch may have been gathered for a runtime that took more
            try:
                return [
                    seen
                    for start in range(0, len(looks), most)
                    for seen in self._show(view, looks[start : start + most])
                ]
            except RuntimeClosedError:
                if runtime is self.runtime:
                    raise

    def _show(self, view: View, looks: Sequence[CropRequest]) -> list[StageOutput[Result]]:
        started = time.perf_counter()
        regions = [look.region for look in looks]
        seen = view([look.frame for look in looks], regions)
        inferred = time.perf_counter()
        results = self._decode(seen.outputs, regions)
        decoded = time.perf_counter()
        timing = Timing(0.0, seen.preparing, inferred - started - seen.preparing, decoded - inferred)
        return [StageOutput(result, timing) for result in results]


def _slowest(served: Sequence[BatchResult[StageOutput[Result]]]) -> Timing:
    if not served:
        return Timing()
    last = max(served, key=lambda one: one.queued_s + one.ran_s)
    return last.value.timing + Timing(queue=last.queued_s)
