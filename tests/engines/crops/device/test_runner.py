"""A runner on the device gives the same keypoints as one on the CPU."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.catalogue import load
from engines.crops.runners import CpuCropRunner, CropRunner, CropRunners
from engines.families import open_estimator
from engines.families.base import Estimator, HasKeypointDecoder
from engines.families.heatmap import Heatmap
from engines.ops.affine import align
from engines.poses import Detections, Frame, Poses, Region
from engines.runtimes import PixelInput, Runtime, open_runtime
from engines.skeletons import COCO_17
from tests.graphs import save_keypoint_graph
from tests.pictures import photo
from tests.shared import SHARED, needs_shared, weights_catalogue

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'posewire[onnxruntime]'")

import torch

from engines.runtimes.onnxruntime.runtime import visible_gpus
from tests.engines.build.onnx_graphs import save_heatmap_onnx

PIXELS = PixelInput(64, 48, "bgr", (103, 116, 124), (57, 57, 58))
FRAMES = [np.asarray(photo(160, 120)), np.asarray(photo(90, 200, seed=1))]
REGIONS = [
    align(Region(x, y, size, size * 4 / 3), frame.shape[1], frame.shape[0], PIXELS)
    for frame, x, y, size in [(FRAMES[0], 50, 60, 40), (FRAMES[1], 40, 90, 60), (FRAMES[0], 150, 110, 70)]
]
BATCH = [FRAMES[0], FRAMES[1], FRAMES[0]]


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """ONNX Runtime in fp32, like the runtime that it is compared with."""
    if request.param == "cuda" and not (visible_gpus() and torch.cuda.is_available()):
        pytest.skip("needs an NVIDIA GPU")
    path = save_heatmap_onnx(tmp_path_factory.mktemp("graph") / "tiny.onnx")
    return open_runtime(
        path, "onnxruntime", device=request.param, precision="fp32", pixels=PIXELS, outputs=["heatmaps"], max_batch=4
    )


def poses(estimator: Estimator, runner: CropRunner, frames: list[Frame], regions: list[Region]) -> Poses:
    return estimator.decode(runner(frames, regions).outputs, regions)


def assert_within_a_quarter_pixel(there: Poses, here: Poses) -> None:
    sure = here.keypoint_scores > 0
    assert sure.any()
    assert np.abs(there.keypoints - here.keypoints)[sure].max() < 0.25
    np.testing.assert_allclose(there.keypoint_scores, here.keypoint_scores, atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("refinement", ["quarter", "dark", "blurred"])
def test_keypoints_decoded_on_the_device_are_the_same(runtime: Runtime, refinement: str, flip: bool) -> None:
    family = Heatmap(PIXELS, COCO_17, refinement=refinement, flip=flip)
    here = CpuCropRunner(runtime, PIXELS, flip=flip)
    there = CropRunners("device").open(runtime, PIXELS, flip=flip, decoder=family.keypoint_decoder)
    assert_within_a_quarter_pixel(poses(family, there, BATCH, REGIONS), poses(family, here, BATCH, REGIONS))


def test_only_keypoints_are_copied_back(runtime: Runtime) -> None:
    runner = CropRunners("device").open(runtime, PIXELS, decoder=Heatmap(PIXELS, COCO_17).keypoint_decoder)
    outputs = runner(BATCH, REGIONS).outputs
    assert {name: output.shape for name, output in outputs.items()} == {"positions": (3, 17, 2), "scores": (3, 17)}


def test_without_a_decoder_whole_outputs_are_copied_back(runtime: Runtime) -> None:
    here, there = CpuCropRunner(runtime, PIXELS), CropRunners("device").open(runtime, PIXELS)
    expected, given = here(BATCH, REGIONS), there(BATCH, REGIONS)
    np.testing.assert_allclose(given.outputs["heatmaps"], expected.outputs["heatmaps"], atol=1e-6)
    assert given.preparing > 0


def test_threads_can_share_a_runner(runtime: Runtime) -> None:
    runner = CropRunners("device").open(runtime, PIXELS)
    expected = [runner([frame], [region]).outputs["heatmaps"] for frame, region in zip(BATCH, REGIONS, strict=True)]
    with ThreadPoolExecutor(8) as pool:
        several = [pool.submit(runner, [BATCH[n % 3]], [REGIONS[n % 3]]) for n in range(48)]
        for n, done in enumerate(several):
            np.testing.assert_array_equal(done.result().outputs["heatmaps"], expected[n % 3])


def test_the_device_for_crops_can_be_chosen(runtime: Runtime, tmp_path: Path) -> None:
    path = save_keypoint_graph(tmp_path / "tiny.xml", height=64, width=48)
    openvino = open_runtime(path, "openvino", pixels=PIXELS, max_batch=1)
    on_cpu = "cuda" not in runtime.spec.device
    assert isinstance(CropRunners().open(runtime, PIXELS), CpuCropRunner) is on_cpu
    assert isinstance(CropRunners().open(openvino, PIXELS), CpuCropRunner)
    assert not isinstance(CropRunners("device").open(runtime, PIXELS), CpuCropRunner)
    with pytest.raises(ValueError, match="backends onnxruntime and tensorrt, beside a torch that can use it"):
        CropRunners("device").open(openvino, PIXELS)
    with pytest.raises(ValueError, match="one of auto, cpu, device, not on 'gpu'"):
        CropRunners("gpu")  # type: ignore[arg-type]


@needs_shared
@pytest.mark.parametrize("name", ["simplepose"])
def test_keypoints_of_real_people_are_within_a_quarter_pixel(name: str, tmp_path: Path) -> None:
    model = load([weights_catalogue(tmp_path)])[name]
    estimator = open_estimator(model)
    assert isinstance(estimator, HasKeypointDecoder)
    pixels = estimator.pixels
    frames, regions = [], []
    for frame, people in annotated(3):
        aligned = [align(region, frame.shape[1], frame.shape[0], pixels) for region in estimator.regions(people)]
        frames += [frame] * len(aligned)
        regions += aligned
    runtime = open_runtime(
        model.fetch(),
        "onnxruntime",
        device="cpu",
        precision="fp32",
        pixels=pixels,
        outputs=estimator.outputs,
        max_batch=2,
    )
    here, there = (
        CpuCropRunner(runtime, pixels),
        CropRunners("device").open(runtime, pixels, decoder=estimator.keypoint_decoder),
    )
    for start in range(0, len(frames), 2):
        batch = frames[start : start + 2], regions[start : start + 2]
        assert_within_a_quarter_pixel(poses(estimator, there, *batch), poses(estimator, here, *batch))
    runtime.close()


def annotated(count: int) -> list[tuple[Frame, Detections]]:
    """COCO images with the first two people of each."""
    content = json.loads((SHARED / "data/coco/person_keypoints.json").read_text("utf-8"))
    found = []
    for image in content["images"][:count]:
        rows = [a["bbox"] for a in content["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]][:2]
        x, y, width, height = np.array(rows, np.float32).T
        boxes = np.stack([x, y, x + width, y + height], axis=1)
        frame = np.asarray(Image.open(SHARED / "data/coco" / image["file_name"]).convert("RGB"))
        found.append((frame, Detections(boxes, np.ones(len(boxes), np.float32))))
    return found
