"""The choice of TensorRT, and the GPUs that its plans are for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engines.build.builder import set_flags
from engines.plans.flavour import (
    TENSORRT,
    TENSORRT_LEAN,
    TENSORRT_RTX,
    Flavour,
    NoTensorRTError,
    find_flavour,
    target_of,
)
from engines.plans.gpu import Gpu

H100 = Gpu("NVIDIA H100 80GB HBM3", (9, 0))


def test_a_tensorrt_plan_is_for_one_model_of_gpu() -> None:
    assert target_of(TENSORRT, H100) == "sm90-nvidia-h100-80gb-hbm3"
    assert target_of(TENSORRT, Gpu("NVIDIA H200", (9, 0))) == "sm90-nvidia-h200", "the same architecture, other speeds"
    with pytest.raises(NoTensorRTError, match=r"needs an NVIDIA GPU.*pip install 'posewire\[rtx\]'"):
        target_of(TENSORRT, None)


def test_a_tensorrt_rtx_plan_is_for_many_gpus_and_needs_none_to_build() -> None:
    assert target_of(TENSORRT_RTX, None) == target_of(TENSORRT_RTX, H100) == "sm80-and-later"
    assert target_of(TENSORRT_RTX, Gpu("NVIDIA T4", (7, 5))) == "sm75"


def test_without_a_gpu_tensorrt_rtx_is_chosen() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")
    found = find_flavour(None)
    assert found.name == TENSORRT_RTX
    assert found.builds


def test_tensorrt_rtx_is_not_chosen_on_an_unsupported_gpu() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")
    assert find_flavour(Gpu("NVIDIA L4", (8, 9)), [TENSORRT_RTX]).name == TENSORRT_RTX
    assert find_flavour(Gpu("NVIDIA T4", (7, 5)), [TENSORRT_RTX]).target == "sm75"
    with pytest.raises(NoTensorRTError, match=r"RTX .* does not run on NVIDIA H100 .*'posewire\[tensorrt\]'"):
        find_flavour(H100, [TENSORRT_RTX])


def test_errors_name_the_package_to_install() -> None:
    with pytest.raises(NoTensorRTError, match=r"pip install 'posewire\[tensorrt\]'"):
        find_flavour(H100, [])
    with pytest.raises(NoTensorRTError, match=r"pip install 'posewire\[rtx\]'"):
        find_flavour(None, [])
    with pytest.raises(NoTensorRTError, match=r"lean runtime is not installed: pip install 'posewire\[lean\]'"):
        find_flavour(H100, [TENSORRT_LEAN])


def test_the_lean_runtime_cannot_build_plans() -> None:
    runs = Flavour(TENSORRT_LEAN, "11.4.0.106", target_of(TENSORRT_LEAN, H100), "tensorrt_lean")
    assert runs.target == target_of(TENSORRT, H100)
    assert not runs.builds
    assert replace(runs, module="tensorrt").builds


def test_plans_for_the_lean_runtime_get_its_builder_flags() -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")
    rtx = find_flavour(None)  # its builder has the same flags as TensorRT's
    flags = rtx.trt.BuilderFlag
    builder = rtx.trt.Builder(rtx.trt.Logger())
    plain, lean = builder.create_builder_config(), builder.create_builder_config()
    set_flags(plain, rtx)
    set_flags(lean, replace(rtx, name=TENSORRT_LEAN))
    for flag, of_lean in ((flags.VERSION_COMPATIBLE, True), (flags.EXCLUDE_LEAN_RUNTIME, True), (flags.TF32, False)):
        assert not plain.get_flag(flag)
        assert lean.get_flag(flag) is of_lean
