"""ONNX Runtime, beyond `tests.contract`: real networks, typed graphs, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from simplejpeg import decode_jpeg

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[onnxruntime]'")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from engines.catalogue import load
from engines.families import open_detector, open_estimator
from engines.plans.gpu import Gpu
from engines.runtimes import Runtime, open_runtime
from engines.runtimes.onnxruntime import runtime as module
from engines.runtimes.onnxruntime.runtime import visible_gpus
from tests.contract.network import INPUT, PIXELS, crops, save_ir, save_onnx_graph
from tests.engines.build.onnx_graphs import save_onnx
from tests.shared import needs_shared, weights_catalogue

PORTRAIT = Path(__file__).parents[4] / ".assets/astronaut.jpg"


@pytest.fixture
def gpus() -> Iterator[None]:
    """As if there were two GPUs, and an ONNX Runtime that is built for them."""
    gpu = Gpu("NVIDIA H100", (9, 0))
    with (
        patch.object(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        patch.object(module, "find_gpu", lambda index: gpu if index < 2 else None),
    ):
        yield


@needs_shared
@pytest.mark.parametrize(("name", "most"), [("rtmdet-nano-320", 2), ("simplepose", 2)])
def test_real_networks_give_the_same_outputs_as_openvino(name: str, most: int, tmp_path: Path) -> None:
    model = load([weights_catalogue(tmp_path)])[name]
    role = {"detector": open_detector, "estimator": open_estimator}[model.role](model)
    path, pixels = model.fetch(), role.pixels
    image = cv2.resize(decode_jpeg(PORTRAIT.read_bytes()), (pixels.width, pixels.height))
    batch = np.stack([image, image[:, ::-1]])
    given = []
    for backend in ("openvino", "onnxruntime"):
        runtime = open_runtime(
            path, backend, precision="fp32", pixels=pixels, outputs=role.outputs, max_batch=most, device="cpu"
        )
        (name_of_input,) = (spec.name for spec in runtime.spec.inputs)
        given.append((runtime.spec, runtime.run({name_of_input: batch[: runtime.spec.max_batch]})))
        runtime.close()
    (spec, want), (same_spec, got) = given
    assert (same_spec.inputs, same_spec.batch_sizes) == (spec.inputs, spec.batch_sizes)
    for mine, theirs in zip(same_spec.outputs, spec.outputs, strict=True):
        assert (mine.name, mine.dtype, len(mine.shape)) == (theirs.name, theirs.dtype, len(theirs.shape))
        assert all(side in (-1, other) for side, other in zip(mine.shape, theirs.shape, strict=True))
    for output, right in want.items():
        assert np.abs(got[output].astype(np.float64) - right).max() <= 1e-4 * np.abs(right).max()


@pytest.mark.parametrize("shape", [[1, 8], [1, -1], [-1]], ids=["fixed", "folding", "flat"])
def test_a_graph_that_does_not_batch_runs_items_one_by_one(shape: list[int], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["data", "data"], ["twice"]),
        helper.make_node("Reshape", ["twice", "to"], ["out"]),
    ]
    to = {"to": np.array(shape, np.int64)}
    path = save_onnx(tmp_path / "folding.onnx", nodes, to, "data: 1, 8", f"out: {', '.join('s' for _ in shape)}")
    runtime = open_runtime(path, "onnxruntime", device="cpu")
    assert runtime.spec.batch_sizes == (1,)
    np.testing.assert_array_equal(runtime.run({"data": np.ones((1, 8), np.float32)})["out"].ravel(), np.full(8, 2))
    runtime.close()


def typed(path: Path, kind: int) -> Path:
    """A graph that multiplies by a weight of this type."""
    weight = np.array([[0.1]], np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["low"], to=kind),
        helper.make_node("MatMul", ["low", "w"], ["product"]),
        helper.make_node("Cast", ["product"], ["y"], to=TensorProto.FLOAT),
    ]
    model = onnx.load(save_onnx(path, nodes, {"w": weight}, "x: n, 1", "y: n, 1"))
    cast = weight.astype(helper.tensor_dtype_to_np_dtype(kind))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(cast, "w"))
    onnx.save(model, path)
    return path


def test_a_graph_says_in_which_precision_it_is_computed(tmp_path: Path) -> None:
    for kind, precision in ((TensorProto.FLOAT, "fp32"), (TensorProto.FLOAT16, "fp16")):
        runtime = open_runtime(typed(tmp_path / f"{precision}.onnx", kind), "onnxruntime", device="cpu")
        assert runtime.spec.precision == precision
        np.testing.assert_allclose(runtime.run({"x": np.ones((2, 1), np.float32)})["y"], 0.1, atol=1e-4)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    path = save_onnx(tmp_path / "int8.onnx", nodes, {"scale": np.array(0.5, np.float32)}, "x: n, 1", "y: n, 1")
    runtime = open_runtime(path, "onnxruntime", device="cpu")
    assert runtime.spec.precision == "int8"
    np.testing.assert_array_equal(runtime.run({"x": np.array([[0.9]], np.float32)})["y"], [[1.0]])


def test_on_the_cpu_a_call_takes_one_core(tmp_path: Path) -> None:
    runtime = open_runtime(save_onnx_graph(tmp_path / "tiny.onnx"), "onnxruntime", device="cpu", threads=3)
    assert runtime.spec.concurrency == 3
    assert runtime.spec.device == "cpu"


def test_a_batch_of_addresses_is_checked(tmp_path: Path) -> None:
    runtime = module.OnnxRuntime(save_onnx_graph(tmp_path / "tiny.onnx"), device="cpu", pixels=PIXELS, max_batch=2)
    for count in (0, 3):
        with pytest.raises(ValueError, match=r"a batch has 1\.\.2 items"):
            runtime.run_on_device({}, {}, count, 0)
    assert runtime.run({INPUT: crops(2)})


def test_unknown_precisions_devices_and_files_are_named(tmp_path: Path) -> None:
    path = save_onnx_graph(tmp_path / "tiny.onnx")
    for precision in ("fp8", "bf16"):
        with pytest.raises(ValueError, match=f"precision '{precision}' is not one of auto, fp32"):
            open_runtime(path, "onnxruntime", precision=precision, device="cpu")
    for device in ("abacus", "mps", "cuda:x"):
        with pytest.raises(ValueError, match=f"device '{device}' is not one of cpu, cuda"):
            open_runtime(path, "onnxruntime", device=device)
    with pytest.raises(ValueError, match="there is no device cuda:99"):
        open_runtime(path, "onnxruntime", device="cuda:99")
    with pytest.raises(ValueError, match=r"runs ONNX graphs; tiny\.xml is none: use openvino"):
        open_runtime(save_ir(tmp_path / "tiny.xml"), "onnxruntime", device="cpu")
    (tmp_path / "damaged.onnx").write_bytes(b"\xff" * 99)
    with pytest.raises(ValueError, match=r"damaged\.onnx is no ONNX graph, or is damaged"):
        open_runtime(tmp_path / "damaged.onnx", "onnxruntime", device="cpu")


def test_a_graph_that_cannot_be_run_is_a_runtime_error(tmp_path: Path) -> None:
    node = helper.make_node("Abacus", ["x"], ["y"], domain="some.where")
    model = onnx.load(save_onnx(tmp_path / "odd.onnx", [node], {}, "x: n, 4", "y: n, 4"))
    model.opset_import.append(helper.make_opsetid("some.where", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(RuntimeError, match="Abacus"):
        open_runtime(tmp_path / "odd.onnx", "onnxruntime", device="cpu")


@pytest.mark.skipif(bool(visible_gpus()), reason="tests a machine without a GPU")
def test_what_a_gpu_lacks_is_said(tmp_path: Path) -> None:
    path = save_onnx_graph(tmp_path / "tiny.onnx")
    with pytest.raises(ValueError, match=r"built without CUDA; pip install 'posewire\[cuda\]' in place of"):
        open_runtime(path, "onnxruntime", device="cuda")
    with (
        patch.object(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"]),
        pytest.raises(ValueError, match="there is no device cuda: no NVIDIA GPU is found"),
    ):
        open_runtime(path, "onnxruntime", device="cuda")


def test_devices_are_numbered_as_the_driver_numbers_them(gpus: None, tmp_path: Path) -> None:
    assert visible_gpus() == ("cuda:0", "cuda:1")
    with pytest.raises(ValueError, match="there is no device cuda:2: the last one is cuda:1"):
        open_runtime(save_onnx_graph(tmp_path / "tiny.onnx"), "onnxruntime", device="cuda:2")


class FakeCuda:
    """Opens sessions on the CPU and notes what was asked for on a GPU."""

    def __init__(self, *, loads: bool = True) -> None:
        self.options: list[dict[str, str]] = []
        self._loads = loads
        self._real = onnxruntime.InferenceSession

    def __call__(self, content: bytes, options: object, providers: list[Any], **_: object) -> Any:
        (name, choices), rest = providers
        assert (name, rest) == ("CUDAExecutionProvider", "CPUExecutionProvider")
        self.options.append(choices)
        session = self._real(content, options, [rest])
        if self._loads:
            session.get_providers = lambda: [name, rest]
        return session


@pytest.mark.parametrize(("precision", "tf32", "said"), [("auto", "1", "tf32"), ("fp32", "0", "fp32")])
def test_on_a_gpu_each_batch_size_has_a_session(
    gpus: None, tmp_path: Path, precision: str, tf32: str, said: str
) -> None:
    path, fake = save_onnx_graph(tmp_path / "tiny.onnx"), FakeCuda()
    with patch.object(onnxruntime, "InferenceSession", fake):
        runtime: Runtime = open_runtime(path, "onnxruntime", precision=precision, max_batch=4, device="cuda:1")
    assert len(fake.options) == 4  # one to probe, and one for each of 1, 2 and 4
    assert all(options["device_id"] == "1" and options["use_tf32"] == tf32 for options in fake.options)
    spec = runtime.spec
    assert (spec.device, spec.precision, spec.concurrency) == ("NVIDIA H100 (cuda:1)", said, 2)
    assert spec.batch_sizes == (1, 2, 4)
    assert len(runtime.run({INPUT: np.zeros((3, 3, 64, 48), np.float32)})["means"]) == 3
    runtime.release()
    runtime.close()


def test_cuda_libraries_that_cannot_be_loaded_are_an_error(gpus: None, tmp_path: Path) -> None:
    """ONNX Runtime itself would go on on the CPU."""
    path = save_onnx_graph(tmp_path / "tiny.onnx")
    with (
        patch.object(onnxruntime, "InferenceSession", FakeCuda(loads=False)),
        pytest.raises(ValueError, match=r"cannot load CUDA or cuDNN .*'posewire\[cuda\]'"),
    ):
        open_runtime(path, "onnxruntime", device="cuda")
