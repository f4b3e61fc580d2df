"""Plans of real architectures and published graphs, built with the real TensorRT-RTX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")

import torch

from engines.build.checkpoint.export import INPUT, export_onnx
from engines.build.checkpoint.published import PUBLISHED
from engines.build.compile import build_plan
from engines.catalogue import load
from engines.families import open_detector, open_estimator
from engines.inputs import TensorSpec
from engines.networks import build_network
from engines.plans.find import PlanOrder, find_plan
from engines.plans.flavour import TENSORRT_RTX, find_flavour
from tests.engines.networks.recipe import fill
from tests.shared import needs_shared, weights_catalogue

UINT8, FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)


def maps(*sides: tuple[int, int, int]) -> list[TensorSpec]:
    names = ("heatmaps",) if len(sides) == 1 else ("out_low", "out_high")
    return [TensorSpec(name, shape, FLOAT32) for name, shape in zip(names, sides, strict=True)]


@pytest.mark.parametrize(
    ("name", "height", "width", "outputs"),
    [
        ("simple-baseline-r50", 128, 96, maps((17, 32, 24))),
        ("hrnet-w32", 128, 96, maps((17, 32, 24))),
        ("higherhrnet-w32", 128, 128, maps((34, 32, 32), (17, 64, 64))),
    ],
)
def test_a_network_of_the_papers_becomes_a_plan(
    tmp_path: Path, name: str, height: int, width: int, outputs: list[TensorSpec]
) -> None:
    published = PUBLISHED[name]
    with torch.device("meta"):
        network = build_network(name)
    graph = tmp_path / f"{name}.onnx"
    served = published.served(fill(network, gain=0.5))
    export_onnx(served, graph, height=height, width=width, outputs=published.outputs)

    rtx = find_flavour(None, [TENSORRT_RTX])
    pixels = replace(published.pixels, height=height, width=width)
    order = PlanOrder(graph, "fp16", 2, pixels, published.outputs)
    plan = build_plan(order, tmp_path / "plans", rtx)
    assert plan.manifest.batch_sizes == (1, 2)
    assert plan.manifest.inputs == (TensorSpec(INPUT, (height, width, 3), UINT8),)
    assert list(plan.manifest.outputs) == outputs
    weights = sum(tensor.numel() for tensor in network.state_dict().values())
    assert 2 * weights < plan.path.stat().st_size < 3 * weights, "two bytes per weight, shared by all batch sizes"
    assert find_plan(order, tmp_path / "plans", rtx) == plan


@needs_shared
@pytest.mark.parametrize("name", ["rtmdet-nano-640", "rtmdet-nano-320", "simplepose"])
def test_a_published_graph_becomes_a_plan(tmp_path: Path, name: str) -> None:
    model = load([weights_catalogue(tmp_path)])[name]
    role = open_detector(model) if model.role == "detector" else open_estimator(model)
    outputs = None if role.outputs is None else tuple(role.outputs)
    order = PlanOrder(model.fetch(), "fp16", 2, role.pixels, outputs, name)
    manifest = build_plan(order, tmp_path / "plans", find_flavour(None, [TENSORRT_RTX])).manifest
    assert manifest.batch_sizes == (1, 2)
    assert manifest.inputs[0].shape == (role.pixels.height, role.pixels.width, 3)
    shapes = {spec.name: spec.shape for spec in manifest.outputs}
    if name == "simplepose":
        assert list(shapes.values()) == [(17, 64, 48)]
    else:
        assert shapes == {"dets": (1000, 5), "labels": (1000,)}, "candidates before suppression"
