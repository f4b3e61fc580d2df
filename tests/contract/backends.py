"""The runtimes that the contract tests cover, and what each needs from a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from engines.runtimes import PixelInput, Runtime, open_runtime
from tests.contract.network import PIXELS, save_ir, save_onnx_graph


@dataclass(frozen=True, slots=True)
class Backend:
    """missing: what this machine lacks to run it, "" if nothing."""

    name: str
    missing: Callable[[], str]
    open_file: Callable[..., Runtime]

    def open(
        self,
        folder: Path,
        *,
        pixels: PixelInput | None = PIXELS,
        outputs: Sequence[str] | None = None,
        max_batch: int | None = None,
    ) -> Runtime:
        """Open the tiny network in this runtime, in fp32. Skips the test if the machine lacks something."""
        if missing := self.missing():
            pytest.skip(f"{self.name} needs {missing}")
        return self.open_file(folder, pixels=pixels, outputs=outputs, max_batch=max_batch)


def _from_ir(folder: Path, **options: object) -> Runtime:
    return open_runtime(save_ir(folder / "tiny.xml"), precision="fp32", **options)  # type: ignore[arg-type]  # as `Backend.open` names them


def _from_onnx(folder: Path, *, device: str, **options: object) -> Runtime:
    graph = save_onnx_graph(folder / "tiny.onnx")
    return open_runtime(graph, "onnxruntime", precision="fp32", device=device, **options)  # type: ignore[arg-type]  # as `Backend.open` names them


def _from_plan(
    folder: Path,
    *,
    flavour: str,
    pixels: PixelInput | None,
    outputs: Sequence[str] | None,
    max_batch: int | None,
) -> Runtime:
    from engines.build.compile import build_plan
    from engines.plans.find import PlanOrder
    from engines.plans.flavour import find_flavour
    from engines.plans.gpu import find_gpu

    graph = save_onnx_graph(folder / "tiny.onnx")
    order = PlanOrder(graph, "fp32", max_batch or 8, pixels, None if outputs is None else tuple(outputs))
    plan = build_plan(order, folder, find_flavour(find_gpu(), [flavour]))
    return open_runtime(plan.path, "tensorrt", precision="fp32", pixels=pixels, outputs=outputs)


def _nothing() -> str:
    return ""


def _onnxruntime() -> str:
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return "ONNX Runtime and onnx: pip install 'posewire[onnxruntime]'"
    return ""


def _onnxruntime_with_gpu() -> str:
    if missing := _onnxruntime():
        return missing
    from engines.runtimes.onnxruntime.runtime import visible_gpus

    return "" if visible_gpus() else "an NVIDIA GPU, and ONNX Runtime for it: pip install 'posewire[cuda]'"


def _tensorrt(*modules: str, extra: str) -> str:
    if any(find_spec(module) is None for module in ("cuda", "onnx")) or not any(map(find_spec, modules)):
        return f"TensorRT, cuda-python and onnx: pip install 'posewire[{extra}]'"
    from engines.plans.flavour import NoTensorRTError, find_flavour
    from engines.plans.gpu import find_gpu

    if (gpu := find_gpu()) is None:
        return "an NVIDIA GPU with its driver"
    try:
        find_flavour(gpu, ["tensorrt-rtx" if extra == "rtx" else extra])
    except NoTensorRTError as error:
        return f"another GPU or TensorRT: {error}"
    return ""


BACKENDS = (
    Backend("openvino", _nothing, _from_ir),
    Backend("onnxruntime-cpu", _onnxruntime, partial(_from_onnx, device="cpu")),
    Backend("onnxruntime-cuda", _onnxruntime_with_gpu, partial(_from_onnx, device="cuda")),
    Backend(
        "tensorrt",
        partial(_tensorrt, "tensorrt", extra="tensorrt"),
        partial(_from_plan, flavour="tensorrt"),
    ),
    Backend(
        "tensorrt-rtx",
        partial(_tensorrt, "tensorrt_rtx", extra="rtx"),
        partial(_from_plan, flavour="tensorrt-rtx"),
    ),
)
