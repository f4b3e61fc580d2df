"""Images per second of a bare network on its device, by runtime, and the peak performance of the device."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engines.build.compile import build_plan
from engines.crops.runners import TensorRuntime
from engines.plans.find import PlanOrder
from engines.plans.flavour import TENSORRT, TENSORRT_RTX, find_flavour
from engines.plans.gpu import find_gpu
from engines.runtimes import TensorSpec, open_runtime
from tests.benchmarks.accelerator.subjects import Subject

Step = Callable[[], object]
"""Starts one batch. The device may still be working on it on return."""


@dataclass(frozen=True, slots=True)
class Way:
    """A runtime of a network. steps: by batch size. wait: waits until all work is done."""

    name: str
    steps: Mapping[int, Step]
    wait: Callable[[], None]


TYPES = {"fp16": torch.float16, "fp32": torch.float32}


def rate(step: Step, wait: Callable[[], None], batch: int, seconds: float) -> float:
    """Items per second over `seconds`, after three warm-up batches."""
    for _ in range(3):
        step()
    wait()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(4):  # the clock is not what is measured
            step()
        count += 4
        if count % 64 == 0:
            wait()  # else seconds of work could pile up in front of the device
    wait()
    return count * batch / (time.perf_counter() - started)


def finish(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceiling(device: torch.device, precision: str, size: int, seconds: float) -> float:
    """Floating point operations per second of a large matrix product: the peak of the matrix units."""
    left, right = (torch.randn(size, size, device=device, dtype=TYPES[precision]) for _ in range(2))
    with torch.inference_mode():
        return rate(lambda: left @ right, partial(finish, device), 1, seconds) * 2 * size**3


@dataclass(frozen=True, slots=True)
class Setup:
    """How to run networks. cache: the folder for plans. ends: deadline for building a plan, on the monotonic clock."""

    device: torch.device
    precision: str
    batch_sizes: tuple[int, ...]
    cache: Path
    ends: float


@contextmanager
def eager(subject: Subject, setup: Setup) -> Iterator[Way]:
    """The module as torch runs it by itself, channels last."""
    if subject.module is None:
        raise LookupError("there is a graph alone, which torch does not run")
    dtype = TYPES[setup.precision]
    module = copy.deepcopy(subject.module).to(setup.device, dtype)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack this form

    def step(batch_size: int) -> Step:
        images = torch.randn(
            batch_size, 3, subject.pixels.height, subject.pixels.width, device=setup.device, dtype=dtype
        )
        last = images.to(memory_format=torch.channels_last)

        def run() -> object:
            with torch.inference_mode():
                return module(last)

        return run

    yield Way(
        "torch eager", {batch_size: step(batch_size) for batch_size in setup.batch_sizes}, partial(finish, setup.device)
    )


@contextmanager
def onnxruntime(subject: Subject, setup: Setup) -> Iterator[Way]:
    """`engines.runtimes.onnxruntime`, with preprocessing, on tensors of the device where all shapes are fixed."""
    setup.cache.mkdir(parents=True, exist_ok=True)
    graph, most = subject.in_precision(setup.precision, setup.cache), setup.batch_sizes[-1]
    runtime = open_runtime(graph, "onnxruntime", device=str(setup.device), max_batch=most, pixels=subject.pixels)
    try:
        (spec,) = runtime.spec.inputs
        steps: dict[int, Step] = {}
        for batch_size in (size for size in setup.batch_sizes if size <= runtime.spec.max_batch):
            batch = _noise(spec, batch_size)
            if isinstance(runtime, TensorRuntime):
                tensor = torch.from_numpy(batch).to(setup.device)
                steps[batch_size] = partial(runtime.run_tensors, {spec.name: tensor})
            else:
                steps[batch_size] = partial(runtime.run, {spec.name: batch})
        yield Way(f"ONNX Runtime {runtime.spec.precision}", steps, partial(finish, setup.device))
    finally:
        runtime.close()


def tensorrt(subject: Subject, setup: Setup) -> AbstractContextManager[Way]:
    """The plan that TensorRT builds here, see `_plan`."""
    return _plan(subject, setup, TENSORRT)


def tensorrt_rtx(subject: Subject, setup: Setup) -> AbstractContextManager[Way]:
    """The plan that TensorRT-RTX builds here, see `_plan`."""
    return _plan(subject, setup, TENSORRT_RTX)


@contextmanager
def _plan(subject: Subject, setup: Setup, wanted: str) -> Iterator[Way]:
    """From arrays to arrays, with as many batches at once as the runtime supports. Includes copies.

    Raises LookupError, RuntimeError or ValueError where there is no such plan.
    """
    if setup.device.type != "cuda":
        raise LookupError("plans run on GPUs alone")
    flavour = find_flavour(find_gpu(setup.device.index or 0), (wanted,))
    order = PlanOrder(subject.graph, "fp16", setup.batch_sizes[-1], subject.pixels)
    build_in_time(order, setup.cache, wanted, max(setup.ends - time.monotonic(), 0.0))
    plan = build_plan(order, setup.cache, flavour)  # found there
    runtime = open_runtime(plan.path, "tensorrt", pixels=plan.manifest.pixels)
    (spec,) = runtime.spec.inputs
    pending: deque[Future[object]] = deque()

    def wait(most: int = 0) -> None:
        while len(pending) > most:
            pending.popleft().result()

    def step(batch: NDArray[Any]) -> None:
        wait(runtime.spec.concurrency - 1)
        pending.append(pool.submit(runtime.run, {spec.name: batch}))

    try:
        with ThreadPoolExecutor(runtime.spec.concurrency) as pool:
            batch_sizes = [batch_size for batch_size in setup.batch_sizes if batch_size <= runtime.spec.max_batch]
            steps = {batch_size: partial(step, _noise(spec, batch_size)) for batch_size in batch_sizes}
            yield Way(f"{flavour.name} {flavour.version}, {plan.manifest.precision}, with copies", steps, wait)
    finally:
        runtime.close()


def build_in_time(order: PlanOrder, cache: Path, wanted: str, seconds: float) -> None:
    """Build the plan in a process of its own, as nothing else ends TensorRT. Raises LookupError where it is not ready
    in time, and RuntimeError with why there is none.
    """
    context = get_context("spawn")  # a fork cannot use the GPU that its parent uses
    said, saying = context.Pipe(duplex=False)
    child = context.Process(target=_build, args=(saying, order, cache, wanted), daemon=True)
    child.start()
    saying.close()  # so that a child that dies is heard of
    try:
        if not said.poll(seconds):
            raise LookupError(f"its plan was not built in the {seconds:.0f} s that were left")
        try:
            problem = said.recv()
        except EOFError as error:
            raise RuntimeError("the process that builds its plan died") from error
        if problem:
            raise RuntimeError(problem)
    finally:
        child.kill()
        child.join()


def _build(saying: Connection, order: PlanOrder, cache: Path, wanted: str) -> None:
    try:
        build_plan(order, cache, find_flavour(find_gpu(), (wanted,)))
    except RuntimeError as error:
        saying.send(str(error))
    else:
        saying.send("")


def _noise(spec: TensorSpec, count: int) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 255, (count, *spec.shape)).astype(spec.dtype)
