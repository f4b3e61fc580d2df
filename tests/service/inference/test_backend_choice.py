"""The choice of a backend, and the error message if it cannot run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import openvino as ov
import pytest
from click.testing import CliRunner

from engines.build.model_plans import order_for, plans_folder
from engines.catalogue import load
from engines.plans.flavour import TENSORRT_RTX, NoTensorRTError, find_flavour
from engines.plans.gpu import Gpu, find_gpu
from engines.plans.manifest import Manifest, manifest_path
from engines.runtimes import open_runtime
from service.cli.main import main
from service.config import Settings
from service.inference import backend_choice
from service.inference.backend_choice import Backend, RuntimeOpener, choose_backend
from tests.graphs import tiny_catalogue

without_gpu = pytest.mark.skipif(find_gpu() is not None, reason="tests a machine without a GPU")


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """`serve` leaves its options in the environment, for its worker processes."""
    with patch.dict(os.environ):
        yield


@without_gpu
def test_without_a_gpu_openvino_is_chosen() -> None:
    assert choose_backend("auto").name == "openvino"
    assert choose_backend("openvino").name == "openvino"
    assert choose_backend("onnxruntime").name == "onnxruntime"


@pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="this CPU does not compute in bf16"
)
def test_bf16_is_used_for_models_that_are_accurate_enough_in_it(tmp_path: Path) -> None:
    path = tiny_catalogue(tmp_path)
    path.write_text(path.read_text("utf-8").replace("[models.pair]", "[models.pair]\nbf16 = false"), "utf-8")
    catalogue = load([path])
    for name, precision, expected in (("tiny", "auto", "bf16"), ("pair", "auto", "fp32"), ("pair", "bf16", "bf16")):
        opener = RuntimeOpener(Settings(precision=precision), Backend("openvino"))
        with closing(opener.open(catalogue[name], None)) as runtime:
            assert runtime.spec.precision == expected


def test_a_plan_that_does_not_run_is_replaced_by_the_graph(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")
    from tests.engines.build.onnx_graphs import save_heatmap_onnx

    save_heatmap_onnx(tmp_path / "net.onnx")
    (tmp_path / "models.toml").write_text(
        '[models.tiny]\nrole = "estimator"\nfamily = "heatmap"\nskeleton = "coco-17"\n'
        'source = { kind = "file", path = "net.onnx" }\ninput = { width = 48, height = 64 }\n'
        'options = { output = "heatmaps" }\n',
        "utf-8",
    )
    os.environ["POSEWIRE_MODELS"] = str(tmp_path / "cache")
    model, flavour = load([tmp_path / "models.toml"])["tiny"], find_flavour(None, [TENSORRT_RTX])
    order = order_for(model, "fp32", 32)
    key, garbage = order.key(flavour), b"complete, but not a plan"
    manifest = Manifest(
        key=key.digest,
        onnx_sha256=key.onnx_sha256,
        plan_sha256=hashlib.sha256(garbage).hexdigest(),
        flavour=flavour.name,
        version=flavour.version,
        gpu=flavour.target,
        asked="fp32",
        precision="fp32",
        batch_sizes=key.batch_sizes,
        pixels=order.pixels,
        inputs=(),
        outputs=(),
        built_at="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )
    plan = order.path(plans_folder(model), key)
    plan.parent.mkdir(parents=True)
    plan.write_bytes(garbage)
    manifest_path(plan).write_text(manifest.dump(), "utf-8")
    opener = RuntimeOpener(Settings(precision="fp32"), Backend("tensorrt", flavour))
    with closing(opener.open(model, order.outputs)) as runtime:
        assert [spec.name for spec in runtime.spec.outputs] == ["heatmaps"]
    assert opener.statuses["tiny"].state == "failed"
    assert opener.statuses["tiny"].detail
    assert not opener.missing, "building it again would give the same file"
    assert "the plan of tiny does not run, something slower serves it: " in caplog.text


@without_gpu
def test_with_a_gpu_that_no_backend_can_use_openvino_is_chosen() -> None:
    """Its driver is installed, with at most a TensorRT for other GPUs and an ONNX Runtime without CUDA."""
    with patch.object(backend_choice, "find_gpu", lambda: Gpu("NVIDIA H100", (9, 0))):
        assert choose_backend("auto").name == "openvino"


@without_gpu
def test_tensorrt_without_a_gpu_is_refused_in_one_line() -> None:
    with pytest.raises(NoTensorRTError, match="needs an NVIDIA GPU with its driver, and finds none"):
        choose_backend("tensorrt")
    done = CliRunner().invoke(main, ["serve", "--backend", "tensorrt"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: backend tensorrt needs an NVIDIA GPU")
    assert done.stderr.count("\n") == 1


@without_gpu
def test_a_precision_for_gpus_is_refused_without_a_gpu() -> None:
    done = CliRunner().invoke(main, ["serve", "--precision", "fp16"])
    assert (done.exit_code, done.stderr) == (
        1,
        "Error: precision fp16 is for GPUs, and backend openvino computes in fp32 or bf16; say auto\n",
    )


@without_gpu
@pytest.mark.parametrize(
    ("backend", "devices", "message"),
    [
        ("auto", "cuda:0", "devices cuda:0 are GPUs, and no backend is to use them; say auto"),
        ("onnxruntime", "tpu", "device tpu is not one of cuda:0, cuda:1 and so on"),
        ("onnxruntime", "cuda:0,cuda:1", "there is no device cuda:0 on this machine; `nvidia-smi` lists what there is"),
    ],
)
def test_devices_that_do_not_exist_are_named(backend: str, devices: str, message: str) -> None:
    os.environ["POSEWIRE_DEVICES"] = devices
    done = CliRunner().invoke(main, ["serve", "--backend", backend])
    assert (done.exit_code, done.stderr) == (1, f"Error: {message}\n")


def test_an_unknown_backend_is_a_usage_error() -> None:
    done = CliRunner().invoke(main, ["serve", "--backend", "directml"])
    assert done.exit_code == 2
    expected = "setting backend: Input should be 'auto', 'openvino', 'onnxruntime' or 'tensorrt', not 'directml'"
    assert expected in done.stderr


def test_the_backend_that_was_replaced_names_its_successor(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["serve", "--backend", "torch"])
    assert done.exit_code == 2
    assert "backend torch has been replaced by onnxruntime: pip install 'posewire[onnxruntime]'" in done.stderr
    with pytest.raises(ValueError, match="backend torch has been replaced by onnxruntime"):
        open_runtime(tmp_path / "net.onnx", "torch")


@without_gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_onnx_runtime_computes_in_fp32_on_a_cpu(precision: str) -> None:
    done = CliRunner().invoke(main, ["serve", "--backend", "onnxruntime", "--precision", precision])
    assert done.exit_code == 1
    assert f"computes in fp32, and on GPUs in fp16, not in {precision} here; say auto" in done.stderr


def test_on_a_gpu_graphs_are_converted_to_fp16_for_onnx_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[torch]'")
    from tests.engines.build.onnx_graphs import tiny_onnx_catalogue

    model = load([tiny_onnx_catalogue(tmp_path)])["tiny"]
    for precision in ("fp32", "fp16"):
        opener = RuntimeOpener(Settings(precision=precision), Backend("onnxruntime"))
        with closing(opener.open(model, None)) as runtime:
            assert runtime.spec.precision == precision


def test_what_is_not_an_onnx_graph_is_run_by_openvino(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model = load([tiny_catalogue(tmp_path)])["tiny"]
    opener = RuntimeOpener(Settings(precision="fp16"), Backend("onnxruntime"))
    with closing(opener.open(model, None)) as runtime:
        assert runtime.spec.precision in ("fp32", "bf16")
    assert "tiny is not an ONNX graph: OpenVINO runs it, on the CPU" in caplog.text
