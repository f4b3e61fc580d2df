"""Plans that do not fit are refused with a reason; runs on a GPU are in `tests.contract`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[rtx]'")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")
pytest.importorskip("cuda.bindings", reason="needs cuda-python: pip install 'posewire[rtx]'")

from engines.build.compile import build_plan
from engines.plans.find import PlanOrder
from engines.plans.flavour import TENSORRT_RTX, NoTensorRTError, find_flavour
from engines.plans.gpu import Gpu, find_gpu
from engines.plans.manifest import PlanError, PlanFile, check_machine, check_options, manifest_path
from engines.runtimes import PixelInput, open_runtime
from engines.runtimes.tensorrt.driver import CudaError
from engines.runtimes.tensorrt.runtime import error_log, load_engine
from tests.engines.build.onnx_graphs import save_heatmap_onnx

PIXELS = PixelInput(64, 48)
L4 = Gpu("NVIDIA L4", (8, 9))
no_gpu = pytest.mark.skipif(find_gpu() is not None, reason="tests machines without an NVIDIA GPU")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> PlanFile:
    folder = tmp_path_factory.mktemp("plans")
    order = PlanOrder(save_heatmap_onnx(folder / "net.onnx"), "fp32", 4, PIXELS)
    return build_plan(order, folder, find_flavour(None, [TENSORRT_RTX]))


@pytest.fixture
def altered(built: PlanFile, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the plan with another manifest."""

    def copy(plan: bytes | None = None, **changes: object) -> Path:
        path = tmp_path / "copy.plan"
        path.write_bytes(built.read() if plan is None else plan)
        manifest_path(path).write_text(replace(built.manifest, **changes).dump(), "utf-8")  # type: ignore[arg-type]
        return path

    return copy


def test_a_plan_fits_the_machine_and_options_it_was_built_for(built: PlanFile) -> None:
    assert check_machine(built.manifest, L4).name == TENSORRT_RTX
    assert check_options(built.manifest, "auto", None, PIXELS, None) == (1, 2, 4)
    assert check_options(built.manifest, "fp32", 2, PIXELS, ("means", "heatmaps")) == (1, 2)


def test_a_plan_of_another_version_or_gpu_is_refused(built: PlanFile) -> None:
    with pytest.raises(PlanError, match=r"the plan is by tensorrt-rtx 0\.1, and .* is installed; build it again"):
        check_machine(replace(built.manifest, version="0.1"), L4)
    turing = Gpu("Tesla T4", (7, 5))
    with pytest.raises(PlanError, match="the plan is for sm80-and-later, and this machine's GPU is sm75; build it"):
        check_machine(built.manifest, turing)
    with pytest.raises(NoTensorRTError):
        check_machine(replace(built.manifest, flavour="tensorrt"), None)
    if find_spec("tensorrt_lean") is None:
        with pytest.raises(NoTensorRTError, match=r"pip install 'posewire\[lean\]'"):
            check_machine(replace(built.manifest, flavour="tensorrt-lean"), Gpu("NVIDIA L4", (8, 9)))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("bf16", None, PIXELS, None), "computes in fp32, not in bf16"),
        (("auto", 8, PIXELS, None), "has no batch size of 8, only 1, 2, 4"),
        (("auto", None, None, None), "was built for PixelInput"),
        (("auto", None, PIXELS, ("boxes",)), "gives heatmaps, means, not boxes"),
    ],
)
def test_options_that_differ_from_the_plans_are_refused(
    built: PlanFile, options: tuple[str, int | None, PixelInput | None, tuple[str, ...] | None], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_options(built.manifest, *options)


def test_only_plans_on_a_gpu_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"net\.onnx is none: `posewire build` makes one"):
        open_runtime(tmp_path / "net.onnx", "tensorrt")
    with pytest.raises(PlanError, match="there is no plan"):
        open_runtime(tmp_path / "net.plan", "tensorrt")
    with pytest.raises(ValueError, match="TensorRT runs on the devices cuda, cuda:1 and so on, not on cpu"):
        open_runtime(tmp_path / "net.plan", "tensorrt", device="cpu")


def test_a_damaged_plan_is_not_passed_to_tensorrt(altered: Callable[..., Path]) -> None:
    path = altered(plan=b"ftrt and then something else")
    flavour = find_flavour(None, [TENSORRT_RTX])
    log = error_log(flavour.trt)
    with pytest.raises(PlanError, match="damaged; it is not what its manifest says"):
        load_engine(flavour.trt.Runtime(log), PlanFile.open(path), log)


def test_data_that_is_not_a_plan_is_refused_with_tensorrts_message(altered: Callable[..., Path]) -> None:
    nonsense = b"nothing that TensorRT ever wrote" * 64
    digest = hashlib.sha256(nonsense).hexdigest()
    flavour = find_flavour(None, [TENSORRT_RTX])
    log = error_log(flavour.trt)
    with pytest.raises(PlanError, match=r"copy\.plan: TensorRT does not load it: \S"):
        load_engine(flavour.trt.Runtime(log), PlanFile.open(altered(nonsense, plan_sha256=digest)), log)


@no_gpu
def test_a_missing_gpu_is_reported_first(built: PlanFile) -> None:
    with pytest.raises(CudaError, match=r"no NVIDIA GPU can be used here \(.*\); `nvidia-smi` says more"):
        open_runtime(built.path, "tensorrt", pixels=PIXELS)


@no_gpu
def test_without_a_gpu_a_valid_plan_fails_at_the_cuda_driver(built: PlanFile) -> None:
    flavour = find_flavour(None, [TENSORRT_RTX])
    log = error_log(flavour.trt)
    with pytest.raises(PlanError, match="CUDA driver"):
        load_engine(flavour.trt.Runtime(log), built, log)


def test_a_plan_without_a_manifest_is_refused(built: PlanFile, tmp_path: Path) -> None:
    path = tmp_path / "bare.plan"
    path.write_bytes(built.read())
    with pytest.raises(PlanError, match=r"bare\.json: cannot be read"):
        open_runtime(path, "tensorrt")
