"""ONNX Runtime: ONNX graphs on NVIDIA GPUs without TensorRT, and on CPUs where OpenVINO is slow or missing.

It took the place of an interpreter of graphs in torch (1,870 lines) after a comparison on an EPYC, in fp32: outputs
differ from OpenVINO's by at most 2.3e-6 of the largest value (Simple Pose, RTMDet-nano, SimpleBaseline-R50), and an
image takes 8.6 ms of one core for Simple Pose and 23 ms for RTMDet-nano (torch 30 and 67, OpenVINO 14 and 18).

Not used: CUDA graphs (`enable_cuda_graph`), which need buffers at fixed addresses for each concurrent batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    NotImplemented,  # noqa: A004 - so it is named there
    RuntimeException,
)

from engines.cores import usable_cores
from engines.inputs import Arrays, PixelInput, TensorSpec, batch_sizes_up_to
from engines.plans.gpu import find_gpu, gpu_index
from engines.runtimes.base import RuntimeSpec, batches_independently, cut_into_batch_sizes, join_batches
from engines.runtimes.lifecycle import ActiveCalls, gpu_setup, return_freed_memory
from engines.runtimes.onnxruntime.graphs import BATCH, prepare

_MAX_BATCH_GPU, _MAX_BATCH_CPU = 32, 4
_GPU_CONCURRENCY = 2
"""Batches under way at once: one computes while the arrays of the other are copied."""
_CUDA = "CUDAExecutionProvider"
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


class OnnxRuntime:
    """One ONNX graph, with outputs in the types that it declares.

    On a GPU there is a session for each batch size: cuDNN's plans are made for one shape, and a session makes them
    again whenever the shape changes (microsoft/onnxruntime#23006). On the CPU one session runs all batch sizes, each
    call on one core.

    path: .onnx. pixels, outputs: as in `open_runtime`. device: "cpu", "cuda", "cuda:1"; by default a GPU if there is
    one. precision: "fp32", or "auto": nodes in fp32 are computed in TF32 on a GPU (the range of fp32 with the mantissa
    of fp16). Nodes that the graph declares in fp16 or int8 are computed so. threads: the number of concurrent calls
    on the CPU, by default one for each usable core.
    Raises ValueError for a precision or device that does not exist, for outputs that the graph does not have, and for
    files that are not ONNX graphs; RuntimeError for a graph that ONNX Runtime cannot run.
    """

    ordered_by_stream = False

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "auto",
        max_batch: int | None = None,
        pixels: PixelInput | None = None,
        outputs: Sequence[str] | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        if precision not in ("auto", "fp32"):
            raise ValueError(f"precision {precision!r} is not one of auto, fp32; onnxruntime computes as a graph says")
        gpu = self._gpu = _resolve(device)
        model = prepare(_read(path), pixels, outputs)
        content = model.SerializeToString()

        def session(batch: int | None) -> Any:
            return _open(content, gpu, batch, tf32=precision == "auto")

        with gpu_setup(gpu is not None):
            free = session(None)
            inputs, results = _specs(free.get_inputs()), _specs(free.get_outputs())
            self._specs = {spec.name: spec for spec in (*inputs, *results)}
            self._outputs = [spec.name for spec in results]
            self._sessions = {1: free, 2: free}
            batches = max_batch != 1 and _gives_an_output_per_item(model) and batches_independently(self._infer, inputs)
            most = max_batch or (_MAX_BATCH_CPU if gpu is None else _MAX_BATCH_GPU)
            batch_sizes = batch_sizes_up_to(most if batches else 1)
            self._sessions = {size: free if gpu is None else session(size) for size in batch_sizes}
            for size in batch_sizes:  # no client waits for the choice of kernels
                self._infer({spec.name: np.zeros((size, *spec.shape), spec.dtype) for spec in inputs})
        self._spec = RuntimeSpec(
            inputs=inputs,
            outputs=results,
            batch_sizes=batch_sizes,
            concurrency=(threads or usable_cores()) if gpu is None else _GPU_CONCURRENCY,
            device="cpu" if gpu is None else _name(gpu),
            precision=_declared_precision(model) or ("tf32" if gpu is not None and precision == "auto" else "fp32"),
            on_cpu=gpu is None,
        )
        self._calls = ActiveCalls()

    @property
    def spec(self) -> RuntimeSpec:
        return self._spec

    @property
    def torch_device(self) -> str:
        """torch's name of the device that `run_on_device` reads and writes: "cpu", "cuda:0" and so on."""
        return "cpu" if self._gpu is None else f"cuda:{self._gpu}"

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        count = self._spec.check(feeds)
        with self._calls:
            parts = [
                self._infer({name: array[start:stop] for name, array in feeds.items()})
                for start, stop in cut_into_batch_sizes(count, self._spec.batch_sizes)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_batches([part[name] for part in parts]) for name in parts[0]}

    def run_on_device(self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, stream: int) -> None:  # noqa: ARG002 - ONNX Runtime has streams of its own
        """Like `run`, from and to memory of the device at these addresses; the outputs are complete on return.

        Raises ValueError for a batch that is too large.
        """
        if not 1 <= count <= self._spec.max_batch:
            raise ValueError(f"a batch has 1..{self._spec.max_batch} items, not {count}")
        device = ("cpu", 0) if self._gpu is None else ("cuda", self._gpu)
        with self._calls, _runtime_errors():
            for start, stop in cut_into_batch_sizes(count, self._spec.batch_sizes):
                session = self._sessions[stop - start]
                binding = session.io_binding()
                for bind, addresses in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                    for name, address in addresses.items():
                        spec = self._specs[name]
                        offset = start * spec.dtype.itemsize * int(np.prod(spec.shape))
                        bind(name, *device, spec.dtype, (stop - start, *spec.shape), address + offset)
                session.run_with_iobinding(binding)

    def release(self, *, unused: bool = False) -> None:
        """See `Runtime.release`. All batch sizes share their memory, so none of it is unused while batches run."""
        if unused:
            return
        with self._calls.paused() as idle:
            if idle and self._gpu is None:
                # Memory that past batches have needed is only freed at the end of a batch.
                shrinking = onnxruntime.RunOptions()
                shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
                self._infer({i.name: np.zeros((1, *i.shape), i.dtype) for i in self._spec.inputs}, shrinking)
        return_freed_memory()

    def close(self) -> None:
        self._calls.close()
        with gpu_setup(self._gpu is not None):
            self._sessions = {}

    def _infer(self, feeds: Arrays, options: Any = None) -> dict[str, NDArray[Any]]:
        count = len(next(iter(feeds.values())))
        arrays = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        with _runtime_errors():
            results = self._sessions[count].run(self._outputs, arrays, options)
        return dict(zip(self._outputs, results, strict=True))


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that the installed ONNX Runtime can use: "cuda:0" and so on; none if it is built without CUDA."""
    if _CUDA not in onnxruntime.get_available_providers():
        return ()
    return tuple(f"cuda:{n}" for n in itertools.takewhile(lambda n: find_gpu(n) is not None, itertools.count()))


def _resolve(device: str | None) -> int | None:
    """The index of the GPU to run on, None for the CPU."""
    if device == "cpu":
        return None
    gpus = visible_gpus()
    if device is None:
        return 0 if gpus else None
    index = gpu_index(device)
    if index is None:
        raise ValueError(f"device {device!r} is not one of cpu, cuda, cuda:1 and so on")
    if index < len(gpus):
        return index
    if _CUDA not in onnxruntime.get_available_providers():
        why = "this ONNX Runtime is built without CUDA; pip install 'posewire[cuda]' in place of posewire[onnxruntime]"
    else:
        why = f"the last one is {gpus[-1]}" if gpus else "no NVIDIA GPU is found; `nvidia-smi` says more"
    raise ValueError(f"there is no device {device}: {why}")


def _read(path: Path) -> ModelProto:
    if path.suffix != ".onnx":
        raise ValueError(f"onnxruntime runs ONNX graphs; {path.name} is none: use openvino")
    try:
        return onnx.load(path)
    except DecodeError as error:
        raise ValueError(f"{path} is no ONNX graph, or is damaged") from error


def _open(content: bytes, gpu: int | None, batch: int | None, *, tf32: bool) -> Any:
    """A session on a GPU or the CPU, for batches of this size, None for any."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; there is no need to print them too
    options.intra_op_num_threads = 1  # threads of ONNX Runtime spin while they wait, and slow down everything else
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
    if gpu is not None:
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels
        choices = {
            "device_id": str(gpu),
            "use_tf32": str(int(tf32)),
            "cudnn_conv_algo_search": "HEURISTIC",  # as fast as timing all kernels (PaddlePaddle/PaddleX#5057)
            "arena_extend_strategy": "kSameAsRequested",  # not powers of two: there is an arena for each batch size
        }
        providers.insert(0, (_CUDA, choices))
    with _runtime_errors():
        session = onnxruntime.InferenceSession(content, options, providers, enable_fallback=0)
    if gpu is not None and _CUDA not in session.get_providers():
        raise ValueError("ONNX Runtime cannot load CUDA or cuDNN (its log says which): pip install 'posewire[cuda]'")
    return session


@contextmanager
def _runtime_errors() -> Iterator[None]:
    """Raise ONNX Runtime's errors, which have no base class, as RuntimeError."""
    try:
        yield
    except (EPFail, Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException) as error:
        raise RuntimeError(str(error)) from error


def _specs(ports: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(port.name, _item_shape(port.shape), _dtype(port.type)) for port in ports)


def _item_shape(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    return tuple(side if isinstance(side, int) else -1 for side in shape[1:])


def _dtype(kind: str) -> np.dtype[np.generic]:
    """The numpy type of "tensor(float)"."""
    name = kind.removeprefix("tensor(").removesuffix(")")
    return np.dtype(_NUMPY_NAMES.get(name, name))


def _gives_an_output_per_item(model: ModelProto) -> bool:
    """False if the inferred output shapes show that the graph cannot batch, which saves trying."""
    shapes = [port.type.tensor_type.shape for port in model.graph.output if port.type.tensor_type.HasField("shape")]
    return all(shape.dim and not shape.dim[0].HasField("dim_value") for shape in shapes)


def _declared_precision(model: ModelProto) -> str | None:
    """The precision that the graph itself asks for, None if all its weights are in fp32."""
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    weights = {tensor.data_type for tensor in model.graph.initializer}
    if TensorProto.BFLOAT16 in weights:
        return "bf16"
    return "fp16" if TensorProto.FLOAT16 in weights else None


def _name(gpu: int) -> str:
    found = find_gpu(gpu)
    return f"{found.name if found is not None else 'GPU'} (cuda:{gpu})"
