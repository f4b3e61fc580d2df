"""A stage of a pipeline: a compiled network, the family that reads its outputs, and the Batcher where requests meet."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Generic, TypeVar

from engines.crops.runners import CropRunner
from engines.inputs import Arrays, PixelInput
from engines.ops.affine import align
from engines.poses import Frame, Poses, Region
from engines.runtimes.base import Runtime, RuntimeClosedError
from service.batching import Batcher, BatchResult, Division, Priority, Reservation
from service.batching.prediction import powers_of_two
from service.quota import Lease

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")
Rows = TypeVar("Rows")


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


async def submit(batcher: Batcher[Item, Result], item: Item, options: InferenceOptions) -> BatchResult[Result]:
    """`Batcher.submit` with the options of an inference request."""
    return await batcher.submit(
        item,
        priority=options.priority,
        client=options.client,
        deadline=options.deadline,
        admitted=options.admitted,
        reservation=options.reservations.get(batcher.name),
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """The time spent on one image, in seconds of wall time per step. detect: the detector's share of all steps."""

    queue: float = 0.0
    prepare: float = 0.0
    infer: float = 0.0
    decode: float = 0.0
    detect: float = 0.0

    def parts(self) -> dict[str, float]:
        """The steps by name."""
        return {"queue": self.queue, "prepare": self.prepare, "infer": self.infer, "decode": self.decode}

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.queue + other.queue,
            self.prepare + other.prepare,
            self.infer + other.infer,
            self.decode + other.decode,
            self.detect + other.detect,
        )


class PendingFrame:
    """A frame that the first worker to need its pixels decodes. Thread-safe.

    shape: (height, width, 3), of the decoded frame. decode: may raise for a damaged image; then every call of `pixels`
    raises.
    """

    def __init__(self, shape: tuple[int, int, int], decode: Callable[[], Frame]) -> None:
        self.shape = shape
        self._decode = decode
        self._lock = threading.Lock()
        self._result: Frame | Exception | None = None

    def pixels(self) -> Frame:
        """The decoded frame."""
        with self._lock:
            if self._result is None:
                try:
                    self._result = self._decode()
                except Exception as error:  # noqa: BLE001 - raised below, to each caller
                    self._result = error
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """The regions of one frame to run a network on. Each counts as one work unit, and batches may take some of them."""

    frame: Frame | PendingFrame
    regions: Sequence[Region]

    def split(self, units: int) -> tuple[FrameRequest, FrameRequest]:
        """The requests for the first `units` regions and for the rest."""
        return FrameRequest(self.frame, self.regions[:units]), FrameRequest(self.frame, self.regions[units:])


@dataclass(frozen=True, slots=True)
class RowKind(Generic[Rows]):
    """What a network's results for several regions are, a row for each. cut: some rows. join: parts, in their order."""

    cut: Callable[[Rows, slice], Rows]
    join: Callable[[Sequence[Rows]], Rows]


def list_rows(_: type[Item]) -> RowKind[list[Item]]:
    """A list with one of these for each region."""
    return RowKind(lambda rows, part: rows[part], lambda parts: [row for part in parts for row in part])


POSE_ROWS: RowKind[Poses] = RowKind(Poses.select, Poses.join)
"""Poses with one person for each region."""


@dataclass(frozen=True, slots=True)
class StageOutput(Generic[Rows]):
    """The decoded results for a frame request, and the time of its batch (timing.queue is not known here)."""

    rows: Rows
    timing: Timing


class Stage(Generic[Rows]):
    """Runs the network on batches of regions of waiting frames, and decodes each batch at once.

    pixels: the network's input. runner: crops regions and runs `runtime` on them. decode: (outputs, regions) to one
    row per region. kind: of the rows.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        pixels: PixelInput,
        runner: CropRunner,
        decode: Callable[[Arrays, Sequence[Region]], Rows],
        kind: RowKind[Rows],
        open_queue: Callable[..., Batcher[FrameRequest, StageOutput[Rows]]],
    ) -> None:
        self.name = name
        self.batcher = open_queue(
            self._run_batch,
            name,
            cost=lambda request: len(request.regions),
            division=Division(FrameRequest.split, self._join),
            max_batch=runtime.spec.max_batch,
            batch_sizes=powers_of_two(runtime.spec.max_batch),
            workers=runtime.spec.concurrency,
        )
        self._pixels = pixels
        self._network = (runtime, runner)
        self._decode = decode
        self._kind = kind

    @property
    def runtime(self) -> Runtime:
        """The runtime that runs the network now."""
        return self._network[0]

    @property
    def decodes_frames(self) -> bool:
        """True if its workers should decode frames: on a CPU, where another queue before it would only cost time."""
        return self.runtime.spec.on_cpu

    def switch(self, runtime: Runtime, runner: CropRunner) -> Runtime:
        """Run the network with `runtime` from the next batch on. Returns the previous runtime, for the caller to close.

        No request is blocked: the previous runtime ends the batches that it has begun, and a batch that reaches it
        after it was closed goes to the new one. If this raises, the previous runtime goes on as before.
        """
        old = self._network
        self._network = (runtime, runner)
        try:
            self._reshape(runtime)
        except BaseException:
            self._network = old
            self._reshape(old[0])
            raise
        return old[0]

    def _reshape(self, runtime: Runtime) -> None:
        spec = runtime.spec
        self.batcher.reshape(spec.max_batch, powers_of_two(spec.max_batch), spec.concurrency)

    async def run(
        self, frame: Frame | PendingFrame, regions: Sequence[Region], options: InferenceOptions
    ) -> tuple[Rows, Timing]:
        """Run the network on `regions` of a frame, at least one. Returns a row for each, and the timing of the slowest.

        Raises what `Batcher.submit` raises, and what decoding a pending frame raises.
        """
        height, width = frame.shape[:2]
        request = FrameRequest(frame, [align(region, width, height, self._pixels) for region in regions])
        result = await submit(self.batcher, request, options)
        return result.value.rows, result.value.timing + Timing(queue=result.queued_s)

    def _run_batch(self, requests: Sequence[FrameRequest]) -> Sequence[StageOutput[Rows] | Exception]:
        """Run the network on all regions of the requests. A frame that cannot be decoded fails its own request only."""
        started = time.perf_counter()
        frames: list[Frame] = []
        regions: list[Region] = []
        outcomes: list[slice | Exception] = []
        for request in requests:
            try:
                frame = request.frame.pixels() if isinstance(request.frame, PendingFrame) else request.frame
            except Exception as error:  # noqa: BLE001 - it is the outcome of this request
                outcomes.append(error)
                continue
            outcomes.append(slice(len(regions), len(regions) + len(request.regions)))
            frames += [frame] * len(request.regions)
            regions += request.regions
        if not regions:
            return [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        output = self._run_regions(frames, regions, Timing(prepare=time.perf_counter() - started))
        if len(requests) == 1:
            return [output]
        return [
            StageOutput(self._kind.cut(output.rows, outcome), output.timing) if isinstance(outcome, slice) else outcome
            for outcome in outcomes
        ]

    def _run_regions(self, frames: Sequence[Frame], regions: Sequence[Region], timing: Timing) -> StageOutput[Rows]:
        """Run the network on `regions[n]` of `frames[n]`. timing: the time spent on them so far."""
        while True:
            runtime, runner = self._network
            largest = runtime.spec.max_batch  # the batch may have been formed for a runtime with larger batches
            try:
                parts = [
                    self._infer(runner, frames[start : start + largest], regions[start : start + largest])
                    for start in range(0, len(regions), largest)
                ]
            except RuntimeClosedError:
                if runtime is self.runtime:
                    raise
            else:
                rows = parts[0].rows if len(parts) == 1 else self._kind.join([part.rows for part in parts])
                return StageOutput(rows, reduce(Timing.__add__, (part.timing for part in parts), timing))

    def _infer(self, runner: CropRunner, frames: Sequence[Frame], regions: Sequence[Region]) -> StageOutput[Rows]:
        started = time.perf_counter()
        inferred = runner(frames, regions)
        done = time.perf_counter()
        rows = self._decode(inferred.outputs, regions)
        decoded = time.perf_counter()
        return StageOutput(rows, Timing(0.0, inferred.preparing, done - started - inferred.preparing, decoded - done))

    def _join(self, parts: Sequence[StageOutput[Rows]]) -> StageOutput[Rows]:
        """Join the outputs for the parts of a divided request. The timing is that of the slowest."""
        slowest = max((part.timing for part in parts), key=lambda timing: sum(timing.parts().values()))
        return StageOutput(self._kind.join([part.rows for part in parts]), slowest)


def replace_runtime(
    runtimes: MutableMapping[str, Runtime],
    stage: Stage[Any],
    new: Runtime,
    open_runner: Callable[[Runtime], CropRunner],
) -> None:
    """Replace a stage's runtime in `runtimes` with `new`, and close the old one.

    open_runner: opens the runner of a runtime. If that or the switch fails, `new` is closed and nothing has changed.
    """
    try:
        old = stage.switch(new, open_runner(new))
    except BaseException:
        new.close()
        raise
    runtimes[stage.name] = new
    try:
        old.close()
    except Exception:  # it is idle from now on, and its memory is freed with the process
        logger.exception("what ran %s before cannot be closed", stage.name)
