"""Programs: where they are split for a CUDA graph, and how they share weights."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engines.runtimes import PixelInput
from engines.runtimes.openvino.graphs import read_graph
from engines.runtimes.torch.program import Constants, Program, lower
from engines.runtimes.torch.runtime import TorchRuntime
from tests.contract.network import PIXELS, save_ir
from tests.shared import SHARED, needs_shared

CPU = torch.device("cpu")


def detector() -> ov.Model:
    """Boxes from a convolution (2, 4, 6, 6), non-maximum suppression, and the mean of all boxes."""
    image = op.parameter([2, 3, 6, 6], ov.Type.f32, name="image")
    weights = np.random.default_rng(3).normal(0, 1, (5, 3, 1, 1)).astype(np.float32)
    grid = op.convolution(image, op.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1])
    rows = op.reshape(grid, np.array([2, 5, 36]), special_zero=False)
    boxes = op.transpose(op.gather(rows, np.array([0, 1, 2, 3]), np.int64(1)), np.array([0, 2, 1]))
    scores = op.gather(rows, np.array([4]), np.int64(1))
    kept = op.non_max_suppression(boxes, scores, np.int64(9), np.float32(0.5), np.float32(0.1)).output(0)
    means = op.reduce_mean(boxes, np.array([1]), keep_dims=False)
    return ov.Model([op.multiply(op.convert(kept, "f32"), np.float32(2)), means], [image], "detector")


class OnFakeGpu(Constants):
    """Constants on a fake GPU, of which torch only tracks shapes, types and devices."""

    def __init__(self, gpu: FakeTensorMode) -> None:
        super().__init__(CPU)
        self._gpu = gpu

    def keep(self, tensor: torch.Tensor, *, weights: bool) -> torch.Tensor:
        known = self._gpu.from_tensor(super().keep(tensor, weights=weights))
        with self._gpu:
            return known.to("cuda:0")


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_split_equals_whole(program: Program, image: torch.Tensor) -> None:
    """The two parts, one after the other, give the same outputs as the whole program."""
    head, tail = program.split_at_dynamic()
    assert tail is not None
    for whole, cut in zip(program(image), tail(*head(image)), strict=True):
        torch.testing.assert_close(cut, whole, rtol=0, atol=0)


def test_steps_after_suppression_are_split_off() -> None:
    program = lower(detector(), None, Constants(CPU))
    assert_split_equals_whole(program, images(2, 3, 6, 6))
    head, _ = program.split_at_dynamic()
    shapes = {tuple(tensor.shape) for tensor in head(images(2, 3, 6, 6))}
    assert shapes == {(2, 36, 4), (2, 1, 36), (2, 4)}, "the boxes, their scores, and the means"


def test_splitting_works_in_16_bits() -> None:
    assert_split_equals_whole(lower(detector(), torch.bfloat16, Constants(CPU)), images(2, 3, 6, 6))


@needs_shared
def test_the_captured_part_never_uses_the_host() -> None:
    """No tensor on the host and no value that the host waits for, checked without a GPU."""
    path = SHARED / "data/weights/rtmdet_nano.onnx"
    model = read_graph(ov.Core(), path, PixelInput(320, 320, "bgr"), None, 2)
    gpu = FakeTensorMode(allow_non_fake_inputs=True)
    head, tail = lower(model, torch.bfloat16, OnFakeGpu(gpu)).split_at_dynamic()
    with gpu:
        images = torch.empty((2, 320, 320, 3), dtype=torch.uint8, device="cuda:0")
        outputs = head(images)
    assert tail is not None
    assert {tensor.device.type for tensor in outputs} == {"cuda"}


def test_a_network_of_fixed_shapes_is_not_split(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = save_ir(tmp_path_factory.mktemp("tiny") / "tiny.xml")
    program = lower(read_graph(ov.Core(), path, PIXELS, None, 2), None, Constants(CPU))
    assert program.split_at_dynamic() == (program, None)


@needs_shared
def test_a_real_detector_is_split_before_suppression() -> None:
    model = ov.Core().read_model(SHARED / "data/weights/rtmdet_nano.onnx")
    model.reshape([1, 3, 320, 320])
    assert_split_equals_whole(lower(model, None, Constants(CPU)), 30 * images(1, 3, 320, 320))


def test_programs_share_their_weights() -> None:
    constants = Constants(CPU)
    one, two = np.ones((3, 3), np.float32), np.zeros((3, 3), np.float32)
    first = constants.keep(torch.from_numpy(one), weights=True)
    assert constants.keep(torch.from_numpy(one.copy()), weights=True) is first
    assert constants.keep(torch.from_numpy(two), weights=True) is not first
    assert constants.keep(torch.from_numpy(one.astype(np.float16)), weights=True).dtype == torch.float16
    assert constants.keep(torch.from_numpy(one.reshape(9)), weights=True).shape == (9,)


def test_tensors_give_the_same_outputs_as_arrays(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = save_ir(tmp_path_factory.mktemp("tiny") / "tiny.xml")
    runtime = TorchRuntime(path, precision="fp32", max_batch=4, device="cpu")
    batch = images(3, 3, 64, 48)
    given = runtime.run_tensors({"image": batch})
    for name, array in runtime.run({"image": batch.numpy()}).items():
        torch.testing.assert_close(given[name], torch.from_numpy(array))
