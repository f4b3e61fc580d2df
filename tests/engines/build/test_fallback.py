"""If a precision finds other people than fp32, the plan is built in the next one, as its manifest records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'posewire[rtx]'")

from engines.build.accuracy_gate.evaluation_images import EvaluationImages
from engines.build.compile import build_plan
from engines.build.crop_decoder import CropResult
from engines.families.heatmap import Heatmap
from engines.inputs import Arrays, PixelInput
from engines.plans.find import PlanBuildError, PlanOrder
from engines.plans.flavour import TENSORRT_RTX, Flavour, find_flavour
from engines.plans.manifest import PlanFile
from engines.poses import Region
from engines.runtimes import Runtime, open_runtime
from engines.skeletons import COCO_17
from tests.engines.build.small import save_network, spot_finder, spots, there_and_back

PIXELS = PixelInput(32, 24)


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    return find_flavour(None, [TENSORRT_RTX])


def read(outputs: Arrays) -> Sequence[CropResult]:
    """Seventeen keypoints for each image."""
    [maps] = outputs.values()  # OpenVINO may use another of its names
    poses = Heatmap(PIXELS, COCO_17).decode({"maps": maps}, [Region(12, 16, 24, 32)] * len(maps))
    return [poses.select(slice(n, n + 1)) for n in range(len(poses))]


def evaluation_images(digest: str | None = "some images") -> EvaluationImages:
    crops = np.moveaxis(spots(), 1, -1).round().astype(np.uint8)
    return EvaluationImages(crops, read, dense=True, digest=digest)


def test_an_accurate_graph_gets_the_requested_precision_and_a_report(tmp_path: Path, rtx: Flavour) -> None:
    graph = save_network(tmp_path / "sound.onnx", constants=spot_finder())
    manifest = build_plan(
        PlanOrder(graph, "fp16", 2, PIXELS), tmp_path, rtx, evaluation_images=evaluation_images()
    ).manifest
    assert (manifest.asked, manifest.precision) == ("fp16", "fp16")
    [report] = manifest.gate
    assert report["passed"]
    assert report["compared"] == 4 * 17
    assert manifest.evaluation_images == "some images"


def test_a_graph_that_fails_in_fp16_and_bf16_is_built_in_fp32(tmp_path: Path, rtx: Flavour) -> None:
    middle, constants = there_and_back("Add", "Sub", 4096)
    graph = save_network(tmp_path / "poisoned.onnx", middle, constants=spot_finder() | constants)
    plan = build_plan(PlanOrder(graph, "fp16", 2, PIXELS), tmp_path, rtx, evaluation_images=evaluation_images())
    assert (plan.manifest.asked, plan.manifest.precision) == ("fp16", "fp32")
    assert [(report["precision"], report["passed"]) for report in plan.manifest.gate] == [
        ("fp16", False),
        ("bf16", False),
    ]
    assert all(report["failures"] for report in plan.manifest.gate)
    assert "-fp16-" in plan.path.name, "the next order for fp16 finds it"


def test_other_images_are_judged_again(tmp_path: Path, rtx: Flavour) -> None:
    order = PlanOrder(save_network(tmp_path / "sound.onnx", constants=spot_finder()), "fp16", 1, PIXELS)
    first = build_plan(order, tmp_path, rtx, evaluation_images=evaluation_images())
    assert build_plan(order, tmp_path, rtx, evaluation_images=evaluation_images()) == first
    assert build_plan(order, tmp_path, rtx) == first, "a server without images uses the existing plan"
    assert build_plan(order, tmp_path, rtx, evaluation_images=evaluation_images(None)) == first
    second = build_plan(order, tmp_path, rtx, evaluation_images=evaluation_images("others"))
    assert second.manifest.evaluation_images == "others"


def test_int8_needs_real_images(tmp_path: Path, rtx: Flavour) -> None:
    order = PlanOrder(save_network(tmp_path / "sound.onnx", constants=spot_finder()), "int8", 1, PIXELS)
    with pytest.raises(PlanBuildError, match="give a folder of them with --images"):
        build_plan(order, tmp_path, rtx, evaluation_images=evaluation_images(None))
    manifest = build_plan(order, tmp_path, rtx, evaluation_images=evaluation_images()).manifest
    assert manifest.gate[0]["precision"] == "int8"


def test_with_a_gpu_the_plan_itself_is_judged(tmp_path: Path, rtx: Flavour) -> None:
    """OpenVINO replaces the GPU: it runs the right graph for all plans except the first, which gets another network."""
    sound = save_network(tmp_path / "sound.onnx", constants=spot_finder())
    negated = {name: -values for name, values in spot_finder().items()}
    other = save_network(tmp_path / "other.onnx", constants=negated)
    opened: list[str] = []

    def run(plan: Path) -> Runtime:
        assert PlanFile.open(plan).read()
        opened.append(plan.name)
        graph = other if len(opened) == 1 else sound
        return open_runtime(graph, precision="fp32", max_batch=1, pixels=PIXELS)

    order = PlanOrder(sound, "fp16", 1, PIXELS)
    manifest = build_plan(order, tmp_path / "plans", rtx, evaluation_images=evaluation_images(), run=run).manifest
    assert opened == ["fp16.plan", "bf16.plan"]
    assert [(report["precision"], report["passed"]) for report in manifest.gate] == [("fp16", False), ("bf16", True)]
    assert manifest.precision == "bf16"


def test_a_plan_that_does_not_run_is_an_error(tmp_path: Path, rtx: Flavour) -> None:
    def run(_plan: Path) -> Runtime:
        raise ValueError("no such device")

    order = PlanOrder(save_network(tmp_path / "sound.onnx", constants=spot_finder()), "fp16", 1, PIXELS)
    with pytest.raises(PlanBuildError, match="the plan does not run here: no such device"):
        build_plan(order, tmp_path / "plans", rtx, evaluation_images=evaluation_images(), run=run)
    assert not list((tmp_path / "plans").glob("*.plan"))
