"""Compiles an ONNX graph to a TensorRT engine with one optimisation profile per batch size, strongly typed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.files import write_atomically
from engines.inputs import TensorSpec
from engines.locks import locked
from engines.plans.find import PlanBuildError
from engines.plans.flavour import TENSORRT_LEAN, TENSORRT_RTX, Flavour
from engines.runtimes.lifecycle import gpu_setup

Progress = Callable[[float, str], None]
"""Called from any thread with the share of the build that is done, 0..1, and the name of the current phase."""


class EngineBuilder:
    """A graph that TensorRT has parsed. inputs, outputs: shapes per item, -1 for dimensions that vary.

    onnx: the serialised graph, with a free batch size and otherwise fixed input dimensions. Raises PlanBuildError if
    TensorRT does not support it.
    """

    def __init__(self, flavour: Flavour, onnx: bytes) -> None:
        trt = flavour.trt
        self._flavour = flavour
        self._log = _log(trt)
        with gpu_setup(flavour.name != TENSORRT_RTX):  # only RTX builds without opening the GPU
            self._builder = trt.Builder(self._log)
        self._network = self._builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._parser = trt.OnnxParser(self._network, self._log)  # holds the weights until the engine is built
        if not self._parser.parse(onnx):
            raise PlanBuildError(_refusal(flavour, self._parser))
        network = self._network
        self.inputs = tuple(_describe(trt, network.get_input(i)) for i in range(network.num_inputs))
        self.outputs = tuple(_describe(trt, network.get_output(i)) for i in range(network.num_outputs))
        for spec in self.inputs:
            if -1 in spec.shape:
                sides = ", ".join("free" if side < 0 else str(side) for side in spec.shape)
                raise PlanBuildError(f"input {spec.name} is (n, {sides}); a plan is for one size, which pixels say")

    def build(self, batch_sizes: Sequence[int], timings: Path, progress: Progress | None = None) -> bytes:
        """The serialised engine. Optimisation profile i is for batches of exactly `batch_sizes[i]`.

        Runtimes run these batch sizes only, kernels chosen for one batch size are the fastest, and profiles share the
        weights; the kernels of a single profile for 1..32 would be chosen for 32.
        timings: the file of TensorRT's timing cache. Raises PlanBuildError.
        """
        trt, log = self._flavour.trt, self._log
        config = self._builder.create_builder_config()
        set_flags(config, self._flavour)
        for batch_size in batch_sizes:
            profile = self._builder.create_optimization_profile()
            for spec in self.inputs:
                shape = (batch_size, *spec.shape)
                profile.set_shape(spec.name, shape, shape, shape)
            config.add_optimization_profile(profile)
        # TensorRT-RTX times no kernels during a build, and keeps its own cache at run time.
        timed = self._flavour.name != TENSORRT_RTX
        if timed:
            config.set_timing_cache(_timings(config, timings), False)
        monitor = None if progress is None else _monitor(trt, progress)
        if monitor is not None:
            config.progress_monitor = monitor
        log.errors.clear()
        with gpu_setup(timed):
            plan = self._builder.build_serialized_network(self._network, config)
        if plan is None:
            why = log.errors[0] if log.errors else "it gives no reason"
            raise PlanBuildError(f"{_name(self._flavour)} cannot build the graph: {why}. {_ELSE}")
        if timed:
            _keep_timings(config, timings)
        if progress is not None:
            progress(1.0, "built")
        return bytes(memoryview(plan))


def set_flags(config: Any, flavour: Flavour) -> None:
    trt = flavour.trt
    config.clear_flag(trt.BuilderFlag.TF32)  # nodes in fp32 are those that need full precision
    if flavour.name == TENSORRT_LEAN:  # a plan that the lean runtime can run, without a copy of that runtime in it
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)


def _timings(config: Any, path: Path) -> Any:
    """The timing cache at `path`, or an empty one if TensorRT rejects it (truncated, of another version)."""
    kept = path.read_bytes() if path.is_file() else b""
    return config.create_timing_cache(kept) or config.create_timing_cache(b"")


def _keep_timings(config: Any, path: Path) -> None:
    """Merge the kernel timings of a finished build into the file at `path`, which other builds may have extended."""
    with locked(path.with_suffix(".timings-lock")):
        known = _timings(config, path)
        known.combine(config.get_timing_cache(), True)
        write_atomically(path, bytes(memoryview(known.serialize())))


_ELSE = "Serve it with backend openvino or onnxruntime, or export it without that operator"


def _name(flavour: Flavour) -> str:
    return f"{flavour.name} {flavour.version}"


def _refusal(flavour: Flavour, parser: Any) -> str:
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    reasons = [
        f"node {error.node_name() or error.node()} ({error.node_operator()}): {' '.join(error.desc().split())}"
        for error in errors
    ]
    return f"{_name(flavour)} cannot take {'; '.join(reasons) or 'the graph'}. {_ELSE}"


def _describe(trt: Any, tensor: Any) -> TensorSpec:
    return TensorSpec(tensor.name, tuple(int(side) for side in tensor.shape)[1:], np.dtype(trt.nptype(tensor.dtype)))


def _log(trt: Any) -> Any:
    class Log(trt.ILogger):
        """Keeps the errors: the first one of a failed build is its cause, the others are consequences."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(msg.split()))

    return Log()


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Combines nested phases, each a number of steps, into one share. TensorRT calls it from its own threads."""

        def __init__(self) -> None:
            super().__init__()
            self._phases: dict[str, _Phase] = {}
            self._lock = threading.Lock()
            self._share = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                parent = self._phases.get(parent_phase) if parent_phase else None
                self._phases[phase_name] = _Phase(parent, max(num_steps, 1))

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                phase = self._phases[phase_name]
                phase.done = step + 1
                share = phase.share()
                if share > self._share:  # a phase may start over within its parent's step
                    self._share = share
                    progress(share, phase_name)
            return True

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.pop(phase_name, None)

    return Monitor()


@dataclass(slots=True)
class _Phase:
    """A phase of a build. done: the number of completed steps."""

    parent: _Phase | None
    steps: int
    done: int = 0

    def share(self, begun: float = 0.0) -> float:
        """The completed share of the whole build according to this phase, 0..1. begun: the share of its next step."""
        share = min((self.done + begun) / self.steps, 1.0)
        return share if self.parent is None else self.parent.share(share)
