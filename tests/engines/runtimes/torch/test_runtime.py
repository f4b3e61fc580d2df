"""The torch runtime, beyond `tests.contract`: real networks, 16 bits, and errors."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op
from simplejpeg import decode_jpeg

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

from engines.catalogue import load
from engines.families import open_detector, open_estimator, open_one_stage_model
from engines.runtimes import PixelInput, open_runtime
from engines.runtimes.torch.half_precision import half_precision_nodes
from tests.contract.network import INPUT, crops, save_ir
from tests.graphs import save_folding_graph
from tests.shared import needs_shared, weights_catalogue

PORTRAIT = Path(__file__).parents[4] / ".assets/astronaut.jpg"


@needs_shared
@pytest.mark.parametrize(("name", "most"), [("rtmdet-nano-320", 2), ("simplepose", 2), ("tinypose", 1), ("posenet", 1)])
def test_real_networks_give_the_same_outputs_as_openvino(name: str, most: int, tmp_path: Path) -> None:
    model = load([weights_catalogue(tmp_path)])[name]
    role = {"detector": open_detector, "estimator": open_estimator}.get(model.role, open_one_stage_model)(model)
    path, pixels = model.fetch(), role.pixels
    image = cv2.resize(decode_jpeg(PORTRAIT.read_bytes()), (pixels.width, pixels.height))
    batch = np.stack([image, image[:, ::-1]])
    given = []
    for backend in ("openvino", "torch"):
        runtime = open_runtime(
            path, backend, precision="fp32", pixels=pixels, outputs=role.outputs, max_batch=most, device="cpu"
        )
        (name_of_input,) = (spec.name for spec in runtime.spec.inputs)
        given.append((runtime.spec, runtime.run({name_of_input: batch[: runtime.spec.max_batch]})))
        runtime.close()
    (spec, want), (torch_spec, got) = given
    assert (torch_spec.inputs, torch_spec.outputs, torch_spec.batch_sizes) == (
        spec.inputs,
        spec.outputs,
        spec.batch_sizes,
    )
    for output, right in want.items():
        away = np.abs(got[output].astype(np.float64) - right)
        if right.dtype == np.uint8:
            # A quantised network: OpenVINO rounds differently between layers, on processors without VNNI by a tenth of
            # the standard deviation, but without bias.
            assert np.corrcoef(got[output].ravel(), right.ravel())[0, 1] > 0.98
            assert abs(np.mean(got[output].astype(np.float64) - right)) < 0.01 * right.std()
        else:
            assert away.max() <= 1e-4 * np.abs(right).max()


def test_a_graph_that_mixes_the_items_of_a_batch_runs_them_one_by_one(tmp_path: Path) -> None:
    runtime = open_runtime(save_folding_graph(tmp_path / "folding.xml"), "torch", device="cpu")
    assert runtime.spec.batch_sizes == (1,)
    np.testing.assert_array_equal(runtime.run({"data": np.ones((1, 4), np.float32)})["folded"], np.full((1, 4), 2))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bit_outputs_are_close_to_32_bit_outputs_and_returned_as_32_bit(precision: str, tmp_path: Path) -> None:
    path, pixels = save_ir(tmp_path / "tiny.xml"), PixelInput(64, 48, mean=(120, 120, 120), std=(60, 60, 60))
    exact = open_runtime(path, "torch", precision="fp32", device="cpu", pixels=pixels)
    rounded = open_runtime(path, "torch", precision=precision, device="cpu", pixels=pixels)
    assert rounded.spec.precision == precision
    want, got = exact.run({INPUT: crops(2)})["heatmaps"], rounded.run({INPUT: crops(2)})["heatmaps"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=0.02)
    assert not np.array_equal(got, want)


def test_only_the_layers_from_the_first_to_the_last_convolution_are_rounded() -> None:
    """Normalisation before them and decoding of coordinates after them need 32 bits."""
    image = op.parameter([1, 3, 8, 8], ov.Type.f32, name="image")
    weights = op.constant(np.ones((3, 3, 1, 1), np.float32))

    def conv(x: ov.Node, name: str) -> ov.Node:
        return op.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1], name=name)

    centred = op.subtract(image, op.constant(np.float32(120)), name="normalise")
    hidden = op.relu(conv(centred, "first"), name="relu")
    grid = conv(hidden, "last")
    places = op.multiply(grid, op.constant(np.float32(32)), name="decode")
    model = ov.Model([places], [image])
    names = {node.get_name(): node.get_friendly_name() for node in model.get_ops()}
    assert {names[name] for name in half_precision_nodes(model.get_ordered_ops())} == {"first", "relu", "last"}


def test_layers_after_a_selection_of_boxes_are_not_rounded() -> None:
    """A network that refines its detections computes with coordinates in between."""
    image = op.parameter([1, 3, 4, 4], ov.Type.f32, name="image")
    grid = op.convolution(image, op.constant(np.ones((1, 3, 1, 1), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
    flat = op.reshape(grid, np.array([1, 16]), special_zero=False)
    found = op.topk(flat, op.constant(np.int64(4)), axis=1, mode="max", sort="value")
    refined = op.matmul(found.output(0), op.constant(np.eye(4, dtype=np.float32)), False, False)
    ops = ov.Model([refined], [image]).get_ordered_ops()
    assert [node.get_type_name() for node in ops if node.get_name() in half_precision_nodes(ops)] == ["Convolution"]


def test_unknown_precisions_devices_and_operators_are_named(tmp_path: Path) -> None:
    path = save_ir(tmp_path / "tiny.xml")
    with pytest.raises(ValueError, match="precision 'fp8' is not one of auto, fp32, bf16, fp16"):
        open_runtime(path, "torch", precision="fp8", device="cpu")
    for device in ("abacus", "mps", "cuda:x"):
        with pytest.raises(ValueError, match=f"device '{device}' is not one of cpu, cuda"):
            open_runtime(path, "torch", device=device)
    with pytest.raises(ValueError, match="there is no device cuda:99"):
        open_runtime(path, "torch", device="cuda:99")
    odd = op.parameter([1, 4], ov.Type.f32, name="x")
    ov.save_model(ov.Model([op.acosh(odd)], [odd]), tmp_path / "odd.xml")
    with pytest.raises(ValueError, match="the torch runtime has no operator Acosh"):
        open_runtime(tmp_path / "odd.xml", "torch", device="cpu")
