"""BlazePose in bf16: the catalogue allows it only if keypoints move by at most 2 px.

The arithmetic of a CPU with AMX or AVX512-BF16 is emulated, so that every CPU measures the same: the inputs of each
convolution are rounded to bf16's 8 significant bits, its sums are not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from engines.catalogue import FetchError, load
from engines.families import open_detector, open_estimator
from engines.families.base import Detector, Estimator
from engines.ops.affine import crop
from engines.poses import Detections, Frame, Poses, Region
from engines.runtimes.openvino.graphs import prepare_graph
from tests.pictures import astronaut, mosaic

LIMIT = 2.0
"""In pixels of the image."""

RunRegions = Callable[[Frame, list[Region]], dict[str, np.ndarray]]
FRAMES = [np.asarray(picture) for picture in (astronaut(), mosaic(astronaut()))]


def in_bf16(model: ov.Model) -> ov.Model:
    """The model with the inputs of its convolutions rounded, by Veltkamp's splitting of floats."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            for port in (node.input(0), node.input(1)):
                exact = port.get_source_output()
                big = op.multiply(exact, op.constant(np.float32(2**16 + 1)))
                port.replace_source_output(op.subtract(big, op.subtract(big, exact)).output(0))
    model.validate_nodes_and_infer_types()
    return model


def network(name: str, role: Detector | Estimator, *, rounded: bool) -> RunRegions:
    core = ov.Core()
    graph = prepare_graph(core.read_model(load()[name].fetch()), role.pixels, role.outputs, 1)
    compiled = core.compile_model(in_bf16(graph) if rounded else graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(frame: Frame, regions: list[Region]) -> dict[str, np.ndarray]:
        batch = np.empty((len(regions), role.pixels.height, role.pixels.width, 3), np.uint8)
        for slot, region in zip(batch, regions, strict=True):
            crop(frame, region, role.pixels, slot)
        results = [compiled(batch[n : n + 1]) for n in range(len(regions))]
        return {p.get_any_name(): np.concatenate([result[p] for result in results]) for p in compiled.outputs}

    return run


def find(frame: Frame, *, rounded: bool) -> Detections:
    detector = open_detector(load()["blazepose-detector"])
    regions = detector.regions(frame.shape[1], frame.shape[0])
    run = network("blazepose-detector", detector, rounded=rounded)
    return detector.merge(detector.decode(run(frame, regions), regions), regions)


def estimate(frame: Frame, people: Detections, *, rounded: bool) -> Poses:
    estimator = open_estimator(load()["blazepose"])
    regions = estimator.regions(people)
    return estimator.decode(network("blazepose", estimator, rounded=rounded)(frame, regions), regions)


def moved(exact: Poses, other: Poses) -> float:
    """The largest shift of a confident keypoint of a confident person, in pixels."""
    confident = (exact.keypoint_scores > 0.5) & (exact.scores > 0.5)[:, None]
    return float(np.linalg.norm(exact.keypoints - other.keypoints, axis=-1)[confident].max())


@pytest.fixture(scope="module", autouse=True)
def _models() -> None:
    try:
        for part in load().parts("blazepose"):
            part.fetch()
    except FetchError as error:
        pytest.skip(f"needs BlazePose's files, from the package index or the cache: {error}")


def test_the_detector_runs_in_bf16_only_if_keypoints_stay() -> None:
    worst = 0.0
    for frame in FRAMES[:1]:  # the order of the people in the mosaic varies
        exact, other = (estimate(frame, find(frame, rounded=rounded), rounded=False) for rounded in (False, True))
        worst = max(worst, moved(exact, other))
    assert load()["blazepose-detector"].bf16 == load()["blazepose-detector-single"].bf16 == (worst <= LIMIT)


def test_the_estimator_runs_in_bf16_only_if_keypoints_stay() -> None:
    worst = 0.0
    for frame in FRAMES:
        people = find(frame, rounded=False)
        worst = max(worst, moved(*(estimate(frame, people, rounded=rounded) for rounded in (False, True))))
    assert load()["blazepose"].bf16 == load()["blazepose-single"].bf16 == (worst <= LIMIT)
