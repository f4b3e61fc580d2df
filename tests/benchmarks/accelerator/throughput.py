"""Images a second of a bare network on its device, by each way to run it, and what the device could do at most."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engines.build.compile import build_plan
from engines.build.flavour import find_flavour
from engines.build.gpu import find_gpu
from engines.build.plans import PlanOrder
from engines.runtimes import BACKENDS, Runtime, open_runtime
from engines.runtimes.torch import TorchRuntime
from engines.runtimes.views import TensorRuntime
from tests.benchmarks.accelerator.subjects import Subject

Step = Callable[[], object]
"""Puts one batch under way; the device may still be busy with it when this returns."""

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def rate(step: Step, batch: int, device: torch.device, seconds: float) -> float:
    """Items a second over `seconds`, the third of three warm-up batches behind it."""
    for _ in range(3):
        step()
    finish(device)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(4):  # the clock is not what is measured
            step()
        count += 4
        if count % 64 == 0:
            finish(device)  # else seconds of work could pile up in front of the device
    finish(device)
    return count * batch / (time.perf_counter() - started)


def finish(device: torch.device) -> None:
    """Wait until the device has nothing left to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ceiling(device: torch.device, precision: str, size: int, seconds: float) -> float:
    """Floating point operations a second of a large matrix product: what the matrix units give at most."""
    left, right = (torch.randn(size, size, device=device, dtype=HALVES[precision]) for _ in range(2))
    with torch.inference_mode():
        return rate(lambda: left @ right, 1, device, seconds) * 2 * size**3


@dataclass(frozen=True, slots=True)
class Setup:
    """How networks are run. cache: the folder for plans."""

    device: torch.device
    precision: str
    rungs: tuple[int, ...]
    cache: Path


@contextmanager
def eager(subject: Subject, setup: Setup) -> Iterator[tuple[str, dict[int, Step]]]:
    """The module as torch runs it by itself, channels last."""
    if subject.module is None:
        raise LookupError("there is a graph alone, which torch runs as a program")
    dtype = HALVES[setup.precision]
    module = copy.deepcopy(subject.module).to(setup.device, dtype)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack this form

    def step(rung: int) -> Step:
        images = torch.randn(rung, 3, subject.pixels.height, subject.pixels.width, device=setup.device, dtype=dtype)
        last = images.to(memory_format=torch.channels_last)

        def run() -> object:
            with torch.inference_mode():
                return module(last)

        return run

    yield "torch eager", {rung: step(rung) for rung in setup.rungs}


@contextmanager
def program(subject: Subject, setup: Setup) -> Iterator[tuple[str, dict[int, Step]]]:
    """`engines.runtimes.torch`, preprocessing included: one CUDA graph a rung where all shapes are fixed."""
    most, device = setup.rungs[-1], str(setup.device)
    runtime = open_runtime(
        subject.graph, "torch", device=device, precision=setup.precision, max_batch=most, pixels=subject.pixels
    )
    assert isinstance(runtime, TorchRuntime)
    try:
        yield f"torch runtime, {'CUDA graphs' if runtime.captured else 'not captured'}", _steps(runtime, setup.rungs)
    finally:
        runtime.close()


@contextmanager
def tensorrt(subject: Subject, setup: Setup) -> Iterator[tuple[str, dict[int, Step]]]:
    """The plan that TensorRT builds here. Raises LookupError, RuntimeError or ValueError where there is none."""
    if "tensorrt" not in BACKENDS or setup.device.type != "cuda":
        raise LookupError("there is no runtime for plans on this device")
    order = PlanOrder(subject.graph, "bf16" if setup.precision == "bf16" else "fp16", setup.rungs[-1], subject.pixels)
    flavour = find_flavour(find_gpu(setup.device.index or 0))
    plan = build_plan(order, setup.cache, flavour)
    runtime = open_runtime(plan.path, "tensorrt", pixels=plan.manifest.pixels)
    try:
        yield f"{flavour.name} {flavour.version}", _steps(runtime, setup.rungs)
    finally:
        runtime.close()


def _steps(runtime: Runtime, rungs: tuple[int, ...]) -> dict[int, Step]:
    """From tensors on the device where the runtime takes them, else from arrays, whose copies then count."""
    (spec,) = runtime.spec.inputs
    rng = np.random.default_rng(0)

    def step(rung: int) -> Step:
        batch = rng.integers(0, 255, (rung, *spec.shape)).astype(spec.dtype)
        if isinstance(runtime, TensorRuntime):
            feeds = {spec.name: torch.from_numpy(batch).to(runtime.device)}
            return lambda: runtime.run_tensors(feeds)
        return lambda: runtime.run({spec.name: batch})

    return {rung: step(rung) for rung in rungs if rung <= runtime.spec.max_batch}
