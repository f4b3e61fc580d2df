"""TensorRT plans on an NVIDIA GPU, run by TensorRT, its lean runtime or TensorRT for RTX."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from engines.files import write_atomically
from engines.inputs import Arrays, PixelInput, TensorSpec
from engines.plans.flavour import Flavour
from engines.plans.gpu import find_gpu, gpu_index
from engines.plans.manifest import Manifest, PlanError, PlanFile, check_machine, check_options
from engines.runtimes.base import RuntimeSpec
from engines.runtimes.lifecycle import ActiveCalls, gpu_setup
from engines.runtimes.tensorrt.cuda import Cuda
from engines.runtimes.tensorrt.dynamic_outputs import DynamicBinding, DynamicPipeline, OutputBuffer
from engines.runtimes.tensorrt.pipeline import BatchPipeline, Binding, Enqueue

logger = logging.getLogger(__name__)

_CONCURRENCY = 2
"""Batches under way at once: one computes while the arrays of the other are copied."""


class TensorRtRuntime:
    """Runs one plan. The weights are loaded once; each concurrent batch has one CUDA graph per batch size.

    path: .plan, with its manifest beside it. device: "cuda" or "cuda:1". precision, max_batch, pixels, outputs: as the
    plan was built. Raises ValueError if they differ, PlanError for a plan that is damaged or built for another machine,
    NoTensorRTError if TensorRT is not installed, CudaError if there is no GPU.
    """

    ordered_by_stream = True

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
        self._index = index
        plan = PlanFile.open(path)
        batch_sizes = check_options(plan.manifest, precision, max_batch, pixels, outputs)
        gpu = find_gpu(index)
        flavour = check_machine(plan.manifest, gpu)
        driver = Cuda(index)
        driver.make_current()
        with gpu_setup(), ExitStack() as opened:  # closes what has been opened if a later step fails
            contexts = _Contexts(flavour, plan, driver, batch_sizes)
            opened.callback(contexts.close)
            results = contexts.outputs
            self._batches: BatchPipeline | DynamicPipeline
            if any(-1 in spec.shape for spec in results):
                self._batches = DynamicPipeline(
                    driver, plan.manifest.inputs, results, batch_sizes, contexts.bind_dynamic()
                )
            else:
                binds = [contexts.bind_fixed() for _ in range(_CONCURRENCY)]
                self._batches = BatchPipeline(driver, plan.manifest.inputs, results, batch_sizes, binds)
            opened.callback(self._batches.close)
            contexts.save_cache()
            self._opened = opened.pop_all()
        self._spec = RuntimeSpec(
            inputs=plan.manifest.inputs,
            outputs=results,
            batch_sizes=batch_sizes,
            concurrency=self._batches.concurrency,
            device=f"{gpu.name if gpu is not None else 'GPU'} (cuda:{index})",
            precision=plan.manifest.precision,
        )
        self._calls = ActiveCalls()

    @property
    def spec(self) -> RuntimeSpec:
        return self._spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        count = self._spec.check(feeds)
        with self._calls:
            return self._batches.run(feeds, count)

    @property
    def torch_device(self) -> str:
        """torch's name of the GPU."""
        return f"cuda:{self._index}"

    def run_on_device(self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, stream: int) -> None:
        """Like `run`, from and to device memory at these addresses, in order with the work on `stream`.

        Raises ValueError for a batch that is too large, and if the outputs have no fixed sizes.
        """
        if not 1 <= count <= self._spec.max_batch:
            raise ValueError(f"a batch has 1..{self._spec.max_batch} items, not {count}")
        if not isinstance(self._batches, BatchPipeline):
            raise ValueError("the sizes of this plan's outputs depend on what it finds; run it with arrays")
        with self._calls:
            self._batches.run_on_device(inputs, outputs, count, stream)

    def release(self, *, unused: bool = False) -> None:
        """See `Runtime.release`. Does nothing: the graphs need all of their memory."""

    def close(self) -> None:
        self._calls.close()
        with gpu_setup(), self._calls.paused():  # guards against two concurrent calls of close
            self._opened.close()


class _Contexts:
    """The engine of a plan and the execution contexts that run it, each for one batch size and one captured graph."""

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
        self._cache = self._load_cache()
        self._workspaces: list[int] = []
        self._contexts: list[Any] = []
        self.outputs = self._describe(plan.manifest, batch_sizes[0])

    def bind_fixed(self) -> Binding:
        """A binding for one concurrent batch. Its contexts never run at the same time, so they share a workspace."""
        workspace = self._new_workspace()

        def bind(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
            context = self._context(batch_size, workspace)
            for name, address in arrays.items():
                self._check(context.set_tensor_address(name, address), f"take the address of {name}")
            capturable = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX compiles some shapes as it runs
            return self._enqueue(context), capturable is None or bool(capturable(stream))

        return bind

    def bind_dynamic(self) -> DynamicBinding:
        """A binding for outputs whose memory is allocated once their sizes are known, for one batch at a time."""
        workspace = self._new_workspace()

        def bind(batch_size: int, arrays: Mapping[str, int], outputs: Mapping[str, OutputBuffer]) -> Enqueue:
            context = self._context(batch_size, workspace)
            for name, address in arrays.items():
                self._check(context.set_tensor_address(name, address), f"take the address of {name}")
            for name, output in outputs.items():
                allocator = _allocator(self._trt, output)
                self._contexts.append(allocator)  # TensorRT does not keep it alive
                self._check(context.set_output_allocator(name, allocator), f"take an allocator for {name}")
            return self._enqueue(context)

        return bind

    def save_cache(self) -> None:
        """Save the kernels that TensorRT-RTX compiled on this GPU for the next start."""
        if self._cache is None:
            return
        try:
            write_atomically(self._plan.runtime_cache, bytes(memoryview(self._cache.serialize())))
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s); the kernels will be compiled again at the next start",
                self._plan.runtime_cache,
                error,
            )

    def close(self) -> None:
        """Free the contexts and their memory, then the engine."""
        self._driver.make_current()
        self._contexts.clear()
        for workspace in self._workspaces:
            self._driver.free(workspace)
        self._workspaces.clear()
        self._config = self._cache = self._engine = self._runtime = None

    def _load_cache(self) -> Any:
        if not hasattr(self._config, "create_runtime_cache"):  # TensorRT itself compiles nothing at run time
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
            self._driver.synchronize(stream)
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
        """The outputs with their dimensions for this plan's inputs; -1 for dimensions that depend on the data."""
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
    """Load the engine of a plan on the current device. Raises PlanError with TensorRT's message if that fails."""
    engine = runtime.deserialize_cuda_engine(plan.read())
    if engine is None:
        raise PlanError(f"{plan.path}: TensorRT does not load it: {log.last()}")
    return engine


def error_log(trt: Any) -> Any:
    """A TensorRT logger that forwards errors to `logging` and remembers the last one."""

    class Log(trt.ILogger):  # type: ignore[misc]  # the module is only known at run time
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


def _allocator(trt: Any, output: OutputBuffer) -> Any:
    class Allocator(trt.IOutputAllocator):  # type: ignore[misc]  # the module is only known at run time
        def __init__(self) -> None:
            trt.IOutputAllocator.__init__(self)

        def reallocate_output_async(self, tensor_name: str, memory: int, size: int, alignment: int, stream: int) -> int:  # noqa: ARG002 - as TensorRT calls it
            return output.reserve(size)

        def notify_shape(self, tensor_name: str, shape: Any) -> None:  # noqa: ARG002
            output.shape = tuple(int(side) for side in shape)

    return Allocator()
