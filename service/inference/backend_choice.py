"""Chooses the backend, and for each network between a TensorRT plan and the graph; opens networks accordingly."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from engines.build.model_plans import order_for, plans_folder
from engines.catalogue import CatalogueError, Model
from engines.plans.find import find_plan
from engines.plans.flavour import Flavour, NoTensorRTError, find_flavour
from engines.plans.gpu import Gpu, find_gpu, gpu_index
from engines.plans.manifest import PlanFile
from engines.runtimes import Runtime
from engines.runtimes.lifecycle import SharedCores
from engines.runtimes.multi_device import open_on, visible_devices
from service.config import Settings
from service.inference.plan_builder import PlanStatus, PlanTask

if TYPE_CHECKING:
    from engines.build.precision.convert import Precision

_AUTO = ("auto",)
logger = logging.getLogger(__name__)

_MAX_BATCH = 32
"""The largest batch of plans that are built here: a larger one gains next to nothing on any GPU."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The software that runs networks. flavour: of TensorRT, if it is that."""

    name: Literal["openvino", "onnxruntime", "tensorrt"]
    flavour: Flavour | None = None


def choose_backend(wanted: str) -> Backend:
    """The backend of that name. "auto" is TensorRT, or else ONNX Runtime, on a GPU that they can use, and
    OpenVINO without one.

    Raises NoTensorRTError if TensorRT is requested by name and cannot run here.
    """
    gpu = find_gpu() if wanted in ("auto", "tensorrt") else None
    if wanted == "onnxruntime":
        return Backend("onnxruntime")
    if wanted == "tensorrt":
        return Backend("tensorrt", _flavour(gpu))
    if gpu is None:
        return Backend("openvino")
    try:
        return Backend("tensorrt", _flavour(gpu))
    except NoTensorRTError:
        return _without_tensorrt(gpu)


def check_backend(settings: Settings) -> None:
    """Raise NoTensorRTError or CatalogueError for settings that contradict each other or the machine.

    Called before anything is opened.
    """
    backend = choose_backend(settings.backend)
    if backend.name == "openvino" and settings.precision in ("fp16", "int8"):
        raise CatalogueError(
            f"precision {settings.precision} is for GPUs, and backend openvino computes in fp32 or bf16; say auto"
        )
    if backend.name == "onnxruntime" and settings.precision not in _onnxruntime_precisions():
        raise CatalogueError(
            f"backend onnxruntime computes in fp32, and on GPUs in fp16, not in {settings.precision} here; say auto"
        )
    if backend.name == "openvino" and settings.crops == "device":
        raise CatalogueError(
            "crops are cut out on a device by backends onnxruntime and tensorrt, not openvino; say crops auto"
        )
    if settings.devices == _AUTO:
        return
    if backend.name == "openvino":
        raise CatalogueError(f"devices {','.join(settings.devices)} are GPUs, and no backend is to use them; say auto")
    for device in settings.devices:
        index = gpu_index(device)
        if index is None:
            raise CatalogueError(f"device {device} is not one of cuda:0, cuda:1 and so on")
        if find_gpu(index) is None:
            raise CatalogueError(f"there is no device {device} on this machine; `nvidia-smi` lists what there is")
    if len(set(settings.devices)) != len(settings.devices):
        raise CatalogueError(f"devices {','.join(settings.devices)} name one of them twice")


def _onnxruntime_precisions() -> tuple[str, ...]:
    return ("auto", "fp32") if visible_devices("onnxruntime") == ("cpu",) else ("auto", "fp32", "fp16")


def _flavour(gpu: Gpu | None) -> Flavour:
    if gpu is None:
        raise NoTensorRTError(
            "backend tensorrt needs an NVIDIA GPU with its driver, and finds none (`nvidia-smi` says more); "
            "serve with backend auto, openvino or onnxruntime"
        )
    flavour = find_flavour(gpu)
    _ = flavour.trt  # loads it now, while another backend can still be chosen
    return flavour


def _without_tensorrt(gpu: Gpu | None) -> Backend:
    # ONNX Runtime may be missing, or built without CUDA. On the CPU, OpenVINO is faster.
    usable = gpu is not None and visible_devices("onnxruntime") != ("cpu",)
    return Backend("onnxruntime" if usable else "openvino")


@dataclass(slots=True)
class RuntimeOpener:
    """Opens the runtimes of networks with a backend, and lists the models whose plans have to be built.

    shared_cores: of all runtimes that it opens on the CPU. statuses: of the plans, by model, for models that have or
    will get one. missing: models without a plan.
    """

    settings: Settings
    backend: Backend
    threads: int | None = None
    shared_cores: SharedCores = field(default_factory=SharedCores)
    statuses: dict[str, PlanStatus] = field(default_factory=dict)
    missing: list[Model] = field(default_factory=list)

    def open(self, model: Model, outputs: tuple[str, ...] | None) -> Runtime:
        """A runtime for the model: from its plan if there is one that fits and runs, else from its graph.

        Raises FetchError, and ValueError or RuntimeError for a graph that cannot be run.
        """
        backend, path = self.backend, model.fetch()
        if path.suffix != ".onnx" and backend.name != "openvino":
            logger.info("%s is not an ONNX graph: OpenVINO runs it, on the CPU", model.name)
            return self._open_graph("openvino", model, path, outputs, "auto")
        if model.role == "embedder" and backend.name == "tensorrt":  # too small to be worth a plan and its gate
            return self._open_graph(_without_tensorrt(find_gpu()).name, model, path, outputs, "auto")
        if backend.name != "tensorrt" or backend.flavour is None:
            return self._open_graph(backend.name, model, path, outputs, self.settings.precision)
        order = order_for(model, self._plan_precision(), _MAX_BATCH)
        plan = find_plan(order, plans_folder(model), backend.flavour)
        if plan is None:
            self.statuses[model.name] = PlanStatus()
            self.missing.append(model)
        elif (runtime := self._open_existing(model.name, plan, outputs)) is not None:
            return runtime
        return self._open_graph(_without_tensorrt(find_gpu()).name, model, path, outputs, "auto")

    def _open_existing(self, name: str, plan: PlanFile, outputs: tuple[str, ...] | None) -> Runtime | None:
        """A runtime from a plan that exists already; None if it does not run."""
        try:
            runtime = self.open_plan(plan, outputs)
        except (RuntimeError, ValueError) as error:  # another driver, or too little memory: the graph serves instead
            logger.error("the plan of %s does not run, something slower serves it: %s", name, error)
            self.statuses[name] = PlanStatus("failed", 0.0, str(error))
            return None
        self.statuses[name] = PlanStatus("ready", 1.0, "", plan.manifest)
        return runtime

    def tasks(self, take_over: Callable[[str, PlanFile], None]) -> list[PlanTask]:
        """The plans to build. take_over: called with the model's name and its plan."""
        precision, names = self._plan_precision(), [model.name for model in self.missing]
        return [PlanTask(n, precision, _MAX_BATCH, self.statuses[n], partial(take_over, n)) for n in names]

    def open_plan(self, plan: PlanFile, outputs: tuple[str, ...] | None) -> Runtime:
        """A runtime that runs the plan. Raises ValueError or RuntimeError if it does not run here."""
        devices = self._devices("tensorrt")
        return open_on(devices, plan.path, "tensorrt", pixels=plan.manifest.pixels, outputs=outputs)

    def _devices(self, backend: str) -> tuple[str, ...]:
        """The devices for a backend: the GPUs that the settings name, or all of them; always the CPU for OpenVINO."""
        named = self.settings.devices
        return visible_devices(backend) if backend == "openvino" or named == _AUTO else named

    def _plan_precision(self) -> Precision:
        return "fp16" if self.settings.precision == "auto" else self.settings.precision

    def _open_graph(
        self, backend: str, model: Model, path: Path, outputs: tuple[str, ...] | None, precision: str
    ) -> Runtime:
        if precision == "auto" and not model.bf16:
            precision = "fp32"
        with ExitStack() as files:
            if backend == "onnxruntime" and precision == "fp16":  # it computes as a graph says
                folder = files.enter_context(TemporaryDirectory(prefix="posewire-fp16-"))
                from engines.build.precision.convert import convert  # needs onnx and onnxscript

                path, precision = convert(path, Path(folder) / path.name, "fp16").path, "auto"
            return open_on(
                self._devices(backend),
                path,
                backend,
                precision=precision,
                pixels=model.input,
                outputs=outputs,
                cache_dir=model.cache / "compiled",
                threads=self.threads,
                shared_cores=self.shared_cores,
            )
