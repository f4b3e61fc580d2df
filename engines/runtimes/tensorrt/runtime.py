"""TensorRT plans on an NVIDIA GPU: by TensorRT itself, its lean runtime, or TensorRT for RTX."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engines.plans.compatibility import check_machine, check_options
from engines.plans.files import write_whole
from engines.plans.flavour import Flavour
from engines.plans.gpu import find_gpu
from engines.plans.manifest import Manifest, PlanError, PlanFile
from engines.runtimes.base import Arrays, PixelInput, RuntimeSpec, TensorSpec
from engines.runtimes.calls import Calls
from engines.runtimes.devices import gpu_index
from engines.runtimes.opening import alone
from engines.runtimes.openvino.dynamic_outputs import GrowingOutput, Unsized, UnsizedBinding
from engines.runtimes.tensorrt.cuda import Cuda
from engines.runtimes.tensorrt.pipeline import BatchPipeline, Binding, Enqueue

logger = logging.getLogger(__name__)

_SLOTS = 2
"""Batches under way at once: one computes while the other one's arrays are copied."""


class TensorRtRuntime:
    """One plan, its weights once on the device. Each slot has a context for each rung, captured as a CUDA graph.

    path: .plan, with its manifest beside it. device: "cuda" or "cuda:1". precision, max_batch, pixels, outputs: what
    the plan was built for, or ValueError. Raises PlanError for a plan that is damaged or made for another machine,
    NoTensorRTError where it is not installed, CudaError where there is no GPU.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "auto",
        max_batch: int | None = None,
        pixels: PixelInput | None = None,
        outputs: Sequence[str] | None = None,
        device: str | None = None,
    ) -> None:
        index = gpu_index(device or "cuda")
        if index is None:
            raise ValueError(f"TensorRT runs on the devices cuda, cuda:1 and so on, not on {device}")
        plan = PlanFile.open(path)
        batch_sizes = check_options(plan.manifest, precision, max_batch, pixels, outputs)
        gpu = find_gpu(index)
        flavour = check_machine(plan.manifest, gpu)
        driver = Cuda(index)
        driver.use()
        with alone(), ExitStack() as opened:  # what has been opened is closed again where something later fails
            contexts = _Contexts(flavour, plan, driver, batch_sizes)
            opened.callback(contexts.close)
            given = contexts.outputs
            self._batches: BatchPipeline | Unsized
            if any(-1 in spec.shape for spec in given):
                self._batches = Unsized(driver, plan.manifest.inputs, given, batch_sizes, contexts.unsized())
            else:
                slots = [contexts.slot() for _ in range(_SLOTS)]
                self._batches = BatchPipeline(driver, plan.manifest.inputs, given, batch_sizes, slots)
            opened.callback(self._batches.close)
            contexts.keep_cache()
            self._opened = opened.pop_all()
        self._spec = RuntimeSpec(
            inputs=plan.manifest.inputs,
            outputs=given,
            batch_sizes=batch_sizes,
            concurrency=self._batches.count,
            device=f"{gpu.name if gpu is not None else 'GPU'} (cuda:{index})",
            precision=plan.manifest.precision,
        )
        self._calls = Calls()

    @property
    def spec(self) -> RuntimeSpec:
        """See `Runtime.spec`."""
        return self._spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        count = self._spec.check(feeds)
        with self._calls:
            return self._batches.run(feeds, count)

    @property
    def sized(self) -> bool:
        """Whether the outputs have fixed sizes, as `run_on_device` needs it."""
        return isinstance(self._batches, BatchPipeline)

    def run_on_device(self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, stream: int) -> None:
        """As `run`, from and to arrays at these addresses of the device, in the order of the work on `stream`.

        Raises ValueError for a batch that is too large, and where the outputs have no fixed sizes.
        """
        if not 1 <= count <= self._spec.max_batch:
            raise ValueError(f"a batch has 1..{self._spec.max_batch} items, not {count}")
        if not isinstance(self._batches, BatchPipeline):
            raise ValueError("the sizes of this plan's outputs depend on what it finds; run it with arrays")
        with self._calls:
            self._batches.run_on_device(inputs, outputs, count, stream)

    def release(self) -> None:
        """See `Runtime.release`. Everything here is kept for as long as the graphs are."""

    def close(self) -> None:
        """See `Runtime.close`."""
        self._calls.close()
        with alone(), self._calls.held_up():  # two that close at once
            self._opened.close()


class _Contexts:
    """The engine of a plan and the contexts that run it, each for one rung: a captured graph keeps to its context."""

    def __init__(self, flavour: Flavour, plan: PlanFile, driver: Cuda, batch_sizes: Sequence[int]) -> None:
        self._trt = flavour.trt
        self._plan = plan
        self._driver = driver
        self._profiles = {batch_size: plan.manifest.batch_sizes.index(batch_size) for batch_size in batch_sizes}
        self._log = error_log(self._trt)
        self._runtime = self._trt.Runtime(self._log)
        self._engine = load_engine(self._runtime, plan, self._log)
        self._config = self._engine.create_runtime_config()
        strategies = self._trt.ExecutionContextAllocationStrategy
        self._config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        self._cache = self._take_cache()
        self._workspaces: list[int] = []
        self._contexts: list[Any] = []
        self.outputs = self._describe(plan.manifest, batch_sizes[0])

    def slot(self) -> Binding:
        """How one slot runs a rung; the contexts of a slot share their workspace, as they never run at once."""
        workspace = self._new_workspace()

        def bind(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
            context = self._context(batch_size, workspace)
            for name, address in arrays.items():
                self._check(context.set_tensor_address(name, address), f"take the address of {name}")
            capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX compiles some shapes as it runs
            return self._enqueue(context), capturable is None or bool(capturable(stream))

        return bind

    def unsized(self) -> UnsizedBinding:
        """How rungs run whose outputs ask for memory when their sizes are known; never two at once."""
        workspace = self._new_workspace()

        def bind(batch_size: int, arrays: Mapping[str, int], outputs: Mapping[str, GrowingOutput]) -> Enqueue:
            context = self._context(batch_size, workspace)
            for name, address in arrays.items():
                self._check(context.set_tensor_address(name, address), f"take the address of {name}")
            for name, output in outputs.items():
                allocator = _allocator(self._trt, output)
                self._contexts.append(allocator)  # TensorRT does not keep it alive
                self._check(context.set_output_allocator(name, allocator), f"take an allocator for {name}")
            return self._enqueue(context)

        return bind

    def keep_cache(self) -> None:
        """Keep what TensorRT-RTX compiled on this GPU for the next start."""
        if self._cache is None:
            return
        try:
            write_whole(self._plan.runtime_cache, bytes(memoryview(self._cache.serialize())))
        except OSError as error:
            logger.warning("%s cannot be written (%s); the next start compiles anew", self._plan.runtime_cache, error)

    def close(self) -> None:
        """Free the contexts and their memory, then the engine."""
        self._driver.use()
        self._contexts.clear()
        for workspace in self._workspaces:
            self._driver.free(workspace)
        self._workspaces.clear()
        self._config = self._cache = self._engine = self._runtime = None

    def _take_cache(self) -> Any:
        if not hasattr(self._config, "create_runtime_cache"):  # TensorRT itself has compiled everything already
            return None
        cache = self._config.create_runtime_cache()
        if self._plan.runtime_cache.is_file():
            cache.deserialize(self._plan.runtime_cache.read_bytes())
        self._config.set_runtime_cache(cache)
        return cache

    def _new_workspace(self) -> int:
        size = max(self._engine.get_device_memory_size_for_profile_v2(n) for n in self._profiles.values())
        self._workspaces.append(self._driver.allocate(size))
        return self._workspaces[-1]

    def _context(self, batch_size: int, workspace: int | None) -> Any:
        context = self._engine.create_execution_context(self._config)
        self._check(context is not None, "open a context")
        self._contexts.append(context)
        profile = self._profiles[batch_size]
        stream = self._driver.open_stream()
        try:
            self._check(context.set_optimization_profile_async(profile, stream), f"take profile {profile}")
            self._driver.finish(stream)
        finally:
            self._driver.close_stream(stream)
        for spec in self._plan.manifest.inputs:
            self._check(
                context.set_input_shape(spec.name, (batch_size, *spec.shape)), f"take {batch_size} items of {spec.name}"
            )
        if workspace is not None:
            size = self._engine.get_device_memory_size_for_profile_v2(profile)
            context.set_device_memory(workspace, size)
        return context

    def _describe(self, manifest: Manifest, batch_size: int) -> tuple[TensorSpec, ...]:
        """The outputs with the sides that they have for this plan's inputs; -1 where those depend on the data."""
        context = self._context(batch_size, None)
        self._contexts.remove(context)
        return tuple(
            TensorSpec(spec.name, tuple(int(side) for side in context.get_tensor_shape(spec.name))[1:], spec.dtype)
            for spec in manifest.outputs
        )

    def _enqueue(self, context: Any) -> Enqueue:
        def enqueue(stream: int) -> None:
            self._check(context.execute_async_v3(stream), "run the plan")

        return enqueue

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise PlanError(f"{self._plan.path}: TensorRT cannot {what}: {self._log.last()}")


def load_engine(runtime: Any, plan: PlanFile, log: Any) -> Any:
    """The engine of a plan on the current device. Raises PlanError with TensorRT's own words where it takes none."""
    engine = runtime.deserialize_cuda_engine(plan.read())
    if engine is None:
        raise PlanError(f"{plan.path}: TensorRT does not load it: {log.last()}")
    return engine


def error_log(trt: Any) -> Any:
    """A logger for TensorRT that hands errors on to ours and remembers the last."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the module is known only when it runs
        def __init__(self) -> None:
            super().__init__()
            self._last = "it gives no reason"

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self._last = " ".join(msg.split())
                logger.error("TensorRT: %s", self._last)

        def last(self) -> str:
            return self._last

    return Log()


def _allocator(trt: Any, output: GrowingOutput) -> Any:
    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]  # the module is known only when it runs
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:  # noqa: ARG002 - as TensorRT calls it
            return output.reserve(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:  # noqa: ARG002
            output.shape = tuple(int(side) for side in shape)

    return Allocator()
