"""Compiled graphs that run batches: `open_runtime` and the contract that all backends share."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engines.inputs import PixelInput, TensorSpec
from engines.runtimes.base import Runtime, RuntimeClosedError, RuntimeSpec
from engines.runtimes.lifecycle import SharedCores

if TYPE_CHECKING:
    from engines.runtimes.device_tensors import AddressRuntime

__all__ = ["BACKENDS", "PixelInput", "Runtime", "RuntimeClosedError", "RuntimeSpec", "TensorSpec", "open_runtime"]

BACKENDS = ("openvino", "onnxruntime", "tensorrt")
"""OpenVINO on the CPU, ONNX Runtime on a GPU or the CPU, TensorRT plans on a GPU."""
TORCH_IS_GONE = (
    "backend torch has been replaced by onnxruntime: pip install 'posewire[onnxruntime]', or 'posewire[cuda]' with an "
    "NVIDIA GPU, and say backend onnxruntime"
)


def open_runtime(
    path: Path,
    backend: str = "openvino",
    *,
    precision: str = "auto",
    max_batch: int | None = None,
    pixels: PixelInput | None = None,
    outputs: Sequence[str] | None = None,
    cache_dir: Path | None = None,
    threads: int | None = None,
    device: str | None = None,
    shared_cores: SharedCores | None = None,
) -> Runtime:
    """Compile and warm up the graph at `path`.

    pixels: makes the graph take uint8 RGB crops and normalise them itself. outputs: keep only these outputs.
    cache_dir: where compiled graphs are kept between starts (openvino). threads: the number of CPU cores to compute on,
    all by default; with openvino the last bits of the outputs can depend on it. device: "cpu", "cuda", "cuda:1"; by
    default the best that the backend supports. shared_cores: see `OpenVinoRuntime`.
    Raises ValueError for options that the backend does not support.
    """
    if backend == "openvino":
        if device not in (None, "cpu"):
            raise ValueError(f"openvino runs on the device cpu alone, not on {device}")
        from engines.runtimes.openvino.runtime import OpenVinoRuntime  # a backend is imported only when it is used

        return OpenVinoRuntime(
            path,
            precision=precision,
            max_batch=max_batch,
            pixels=pixels,
            outputs=outputs,
            cache_dir=cache_dir,
            threads=threads,
            shared_cores=shared_cores,
        )
    if backend == "onnxruntime":
        try:
            from engines.runtimes.onnxruntime.runtime import OnnxRuntime
        except ModuleNotFoundError as error:
            if error.name not in ("onnx", "onnxruntime"):
                raise
            raise ValueError(
                "backend onnxruntime needs ONNX Runtime and onnx: pip install 'posewire[onnxruntime]', "
                "or 'posewire[cuda]' with an NVIDIA GPU"
            ) from error
        graph = OnnxRuntime(
            path,
            precision=precision,
            max_batch=max_batch,
            pixels=pixels,
            outputs=outputs,
            device=device,
            threads=threads,
        )
        return _with_tensors(graph)
    if backend == "tensorrt":
        if path.suffix != ".plan":
            raise ValueError(f"tensorrt runs plans; {path.name} is none: `posewire build` makes one of an ONNX graph")
        try:
            from engines.runtimes.tensorrt.runtime import TensorRtRuntime
        except ModuleNotFoundError as error:
            if error.name not in ("cuda", "cuda.bindings"):
                raise
            raise ValueError("backend tensorrt needs cuda-python: pip install 'posewire[tensorrt]'") from error
        plan = TensorRtRuntime(
            path, precision=precision, max_batch=max_batch, pixels=pixels, outputs=outputs, device=device
        )
        return _with_tensors(plan)
    if backend == "torch":
        raise ValueError(TORCH_IS_GONE)
    raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")


def _with_tensors(graph: AddressRuntime) -> Runtime:
    """Wrap the runtime so that it also takes torch tensors, if its shapes are fixed and torch can use its device."""
    if any(-1 in port.shape for port in (*graph.spec.inputs, *graph.spec.outputs)) or find_spec("torch") is None:
        return graph
    import torch

    if graph.torch_device != "cpu" and not torch.cuda.is_available():
        return graph
    from engines.runtimes.device_tensors import TensorAddressRuntime

    return TensorAddressRuntime(graph, torch.device(graph.torch_device))
