"""The installed flavour of TensorRT and the GPUs that its plans run on.

There are three: TensorRT itself; its lean runtime, which only runs plans that were built for it; and TensorRT for RTX,
which can build plans without a GPU. All have the same Python API. Other code uses it through `Flavour.trt` and does not
need to know which one is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from engines.plans.gpu import Gpu

TENSORRT, TENSORRT_LEAN, TENSORRT_RTX = "tensorrt", "tensorrt-lean", "tensorrt-rtx"
_MODULES = MappingProxyType({TENSORRT: "tensorrt", TENSORRT_LEAN: "tensorrt_lean", TENSORRT_RTX: "tensorrt_rtx"})
"""The Python module that runs the plans of a flavour."""
_TURING = (7, 5)


class NoTensorRTError(RuntimeError):
    """No TensorRT that could do this is installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """An installed TensorRT.

    name: whose plans it builds or runs: "tensorrt", "tensorrt-lean" or "tensorrt-rtx". module: its Python module.
    target: the GPUs that its plans run on, as a word for file names, see `target_of`.
    """

    name: str
    version: str
    target: str
    module: str

    @property
    def trt(self) -> Any:
        """The Python module, imported at first use: it loads hundreds of megabytes that a plan's key does not need.

        Raises NoTensorRTError if the libraries that it needs cannot be loaded.
        """
        return _import(self.module)

    @property
    def builds(self) -> bool:
        """True if it builds plans; the lean runtime only runs them."""
        return self.module != _MODULES[TENSORRT_LEAN]

    @property
    def runs(self) -> bool:
        """True if its plans can be run here; plans for the lean runtime are built by another module."""
        return find_spec(_MODULES[self.name]) is not None


def find_flavour(gpu: Gpu | None, wanted: Sequence[str] = (TENSORRT, TENSORRT_RTX, TENSORRT_LEAN)) -> Flavour:
    """The first of `wanted` that is installed and usable.

    TensorRT itself is not usable without a GPU, and TensorRT-RTX not on a GPU that it has no kernels for. Only
    TensorRT-RTX is imported, to check that. Raises NoTensorRTError if there is none.
    """
    unfit = ""
    for name in wanted:
        if name != TENSORRT_RTX and gpu is None and TENSORRT_RTX in wanted:
            continue
        module = _MODULES[name]
        if find_spec(module) is None:
            continue
        found = Flavour(name, _version(module), target_of(name, gpu), module)
        # TensorRT-RTX supports GeForce and RTX cards, but no data centre GPUs after Ampere.
        if name == TENSORRT_RTX and gpu and not hasattr(found.trt.ComputeCapability, "SM{}{}".format(*gpu.capability)):
            unfit = f"TensorRT-RTX {found.version} does not run on {gpu.name}: pip install 'posewire[tensorrt]'"
            continue
        return found
    if unfit:
        raise NoTensorRTError(unfit)
    if list(wanted) == [TENSORRT_LEAN]:
        raise NoTensorRTError("TensorRT's lean runtime is not installed: pip install 'posewire[lean]'")
    extra = "tensorrt" if gpu is not None else "rtx"
    raise NoTensorRTError(f"TensorRT is not installed: pip install 'posewire[{extra}]'")


def find_lean_builder(gpu: Gpu | None) -> Flavour:
    """TensorRT as the builder of plans for its lean runtime. Raises NoTensorRTError if it is not installed."""
    if find_spec(_MODULES[TENSORRT]) is None:
        raise NoTensorRTError(
            "plans for the lean runtime are built by TensorRT alone, TensorRT-RTX has no such runtime: "
            "pip install 'posewire[tensorrt]'"
        )
    return replace(find_flavour(gpu, [TENSORRT]), name=TENSORRT_LEAN)


def _version(module: str) -> str:
    """The version of the package that provides the module, or of the module itself if it was installed differently."""
    try:
        return version(f"{module.replace('_', '-')}-cu13")
    except PackageNotFoundError:
        return str(_import(module).__version__)


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise NoTensorRTError(f"{module} is installed, but cannot be loaded: {error}") from error


def target_of(name: str, gpu: Gpu | None) -> str:
    """The GPUs that plans of the flavour `name` run on if they are built on a machine with `gpu`.

    TensorRT times kernels on the GPU itself, so its plans are for that model only. TensorRT-RTX compiles ahead for many
    architectures and finishes on the GPU: compute capability 8.0 and later, or only Turing.
    Raises NoTensorRTError if it needs a GPU and there is none.
    """
    if name == TENSORRT_RTX:
        return "sm75" if gpu is not None and gpu.capability == _TURING else "sm80-and-later"
    if gpu is None:
        raise NoTensorRTError(
            "TensorRT needs an NVIDIA GPU with its driver, and finds none; `nvidia-smi` says more. "
            "Plans can be built without one by TensorRT-RTX: pip install 'posewire[rtx]'"
        )
    return gpu.word
