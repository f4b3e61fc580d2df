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
    from engines.runtimes.tensorrt.runtime import TensorRtRuntime

__all__ = ["BACKENDS", "PixelInput", "Runtime", "RuntimeClosedError", "RuntimeSpec", "TensorSpec", "open_runtime"]

BACKENDS = ("openvino", "torch", "tensorrt")
"""OpenVINO on the CPU, torch on a GPU or the CPU, TensorRT plans on a GPU."""


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
    if backend == "torch":
        try:
            from engines.runtimes.torch.runtime import TorchRuntime
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise ValueError("backend torch needs PyTorch: pip install 'posewire[torch]'") from error
        return TorchRuntime(
            path,
            precision=precision,
            max_batch=max_batch,
            pixels=pixels,
            outputs=outputs,
            device=device,
            threads=threads,
        )
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
        return _with_tensors(plan, device or "cuda")
    raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")


def _with_tensors(plan: TensorRtRuntime, device: str) -> Runtime:
    """Wrap the plan so that it also takes torch tensors, if torch can use the device."""
    if not plan.has_fixed_outputs or find_spec("torch") is None:
        return plan
    import torch

    if not torch.cuda.is_available():
        return plan
    from engines.runtimes.tensorrt.device_tensors import TensorPlanRuntime

    return TensorPlanRuntime(plan, torch.device(device if ":" in device else f"{device}:0"))
