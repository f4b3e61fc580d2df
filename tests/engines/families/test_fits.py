"""Which families fit a graph: exactly those that can read its outputs, with the options that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.families import DETECTORS, ESTIMATORS, ONE_STAGE_MODELS
from engines.families.fits import fits, taken_outputs
from engines.inputs import GraphPorts, PixelInput, Port
from tests import drawn
from tests.people import standing
from tests.shared import needs_shared, weights_catalogue

PERSON = standing(150, 120, 200)
NOTHING: Mapping[str, object] = MappingProxyType({})


def graph(width: int, height: int, outputs: Mapping[str, NDArray[Any] | tuple[int, ...]]) -> GraphPorts:
    """A graph with outputs of these shapes; those that are given as shapes are float32."""
    ports = [
        Port(name, values, np.dtype(np.float32))
        if isinstance(values, tuple)
        else Port(name, values.shape, values.dtype)
        for name, values in outputs.items()
    ]
    return GraphPorts(Port("image", (1, 3, height, width), np.dtype(np.float32)), height, width, tuple(ports))


CELLS = {"320x256": 40 * 32 + 20 * 16 + 10 * 8}
BLAZEPOSE = {"": (1, 195), "_1": (1, 1), "_3": (1, 64, 64, 39), "_4": (1, 117)}
CASES: dict[str, tuple[GraphPorts, str, str, int | None, Mapping[str, object]]] = {
    "simcc": (
        graph(192, 256, {"simcc_x": (1, 133, 384), "simcc_y": (1, 133, 512)}), "simcc", "estimator", 133, NOTHING,
    ),
    "simcc, y first": (
        graph(192, 256, {"simcc_y": (1, 21, 512), "simcc_x": (1, 21, 384)}), "simcc", "estimator", 21, NOTHING,
    ),
    "simcc, other names and bins": (
        graph(256, 256, {"a": (-1, 17, 768), "b": (-1, 17, 768)}),
        "simcc", "estimator", 17, {"split": 3.0, "names": ["a", "b"]},
    ),
    "rtmw3d": (
        graph(288, 384, {"o": (1, 133, 576), "1": (1, 133, 768), "2": (1, 133, 576)}),
        "simcc_3d", "estimator", 133, NOTHING,
    ),
    "nanodet": (
        graph(320, 256, {f"{n}{c}": (1, n, c) for n in (1280, 320, 80) for c in (80, 44)}),
        "nanodet", "detector", None, NOTHING,
    ),
    "nanodet with 8 bins": (
        graph(320, 256, {f"{n}{c}": (1, n, c) for n in (1280, 320, 80) for c in (1, 32)}),
        "nanodet", "detector", None, {"bins": 8},
    ),
    "centernet": (
        graph(320, 256, {"hm": (1, 80, 64, 80), "wh": (1, 2, 64, 80), "reg": (1, 2, 64, 80)}),
        "centre_point", "detector", None, NOTHING,
    ),
    "centernet, other names": (
        graph(320, 256, {"508": (1, 80, 64, 80), "511": (1, 2, 64, 80), "514": (1, 2, 64, 80)}),
        "centre_point", "detector", None, {"heatmap": "508", "size": "511", "offset": "514"},
    ),
    "centernet without offsets": (
        graph(320, 256, {"hm": (1, 1, 64, 80), "wh": (1, 2, 64, 80)}),
        "centre_point", "detector", None, {"offset": ""},
    ),
    "heatmaps": (graph(192, 256, {"output": (1, 5, 64, 48)}), "heatmap", "estimator", 5, NOTHING),
    "heatmaps and peaks": (
        graph(192, 256, {"maps": (1, 17, 64, 48), "peaks": (1, 17)}), "heatmap", "estimator", 17, {"output": "maps"},
    ),
    "rtmo": (graph(320, 256, drawn.rtmo(PERSON)), "rtmo", "one-stage", 17, NOTHING),
    "detrpose": (graph(320, 256, drawn.detrpose(320, 256, PERSON)), "detrpose", "one-stage", 17, NOTHING),
    "yolo": (graph(320, 256, {"output0": (1, 56, CELLS["320x256"])}), "yolo_pose", "one-stage", 17, NOTHING),
    "yolo 7": (
        graph(320, 256, {"o": (1, 3 * CELLS["320x256"], 57)}), "yolo_pose", "one-stage", 17, {"layout": "rows"},
    ),
    "yolo 26": (
        graph(640, 640, {"output0": (1, 300, 6 + 3 * 21)}), "yolo_pose", "one-stage", 21, {"layout": "end-to-end"},
    ),
    "movenet": (graph(320, 256, drawn.movenet(320, 256, PERSON)), "movenet", "one-stage", 17, NOTHING),
    "movenet, one person": (
        graph(192, 192, {"Identity": (1, 1, 17, 3)}), "movenet", "estimator", 17, NOTHING,
    ),
    "movenet's heads, one person": (
        graph(256, 256, {n: o for n, o in drawn.movenet_heads(256, 256, PERSON).items() if "box" not in n}),
        "movenet_heads", "estimator", 17, NOTHING,
    ),
    "movenet's heads": (
        graph(320, 256, drawn.movenet_heads(320, 256, PERSON)), "movenet_heads", "one-stage", 17, NOTHING,
    ),
    "keypoint r-cnn": (graph(320, 256, drawn.keypoint_rcnn(PERSON)), "detections", "one-stage", 17, NOTHING),
    "higherhrnet": (
        graph(320, 256, {"l": (1, 34, 64, 80), "h": (1, 17, 128, 160)}),
        "associative_embedding", "bottom-up", 17, {"low": "l", "high": "h"},
    ),
    "openpose": (graph(320, 256, drawn.part_affinity(320, 256, PERSON)), "part_affinity", "bottom-up", 17, NOTHING),
    "posenet": (
        graph(321, 257, drawn.personlab(321, 257, PERSON)), "personlab", "bottom-up", 17,
        {"heatmaps": "heat", "short_offsets": "short", "mid_offsets": "mid"},
    ),
    "rtmdet": (graph(320, 320, {"dets": (-1, -1, 5), "labels": (-1, -1)}), "rtmdet", "detector", None, NOTHING),
    "yolox": (graph(320, 256, drawn.yolox(320, 256)), "yolox", "detector", None, NOTHING),
    "r-cnn": (
        graph(64, 64, {"boxes": (9, 4), "labels": (9,), "scores": (9,)}), "detections", "detector", None, NOTHING,
    ),
    "blazepose": (
        graph(256, 256, {f"Identity{n}": shape for n, shape in BLAZEPOSE.items()}),
        "blazepose", "estimator", 33, NOTHING,
    ),
    "blazepose's detector": (
        graph(224, 224, {"Identity": (1, 2254, 12), "Identity_1": (1, 2254, 1)}),
        "blazepose_detector", "detector", None, NOTHING,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_first_fit_is_the_family_that_reads_the_graph(case: str) -> None:
    given, family, role, keypoints, options = CASES[case]
    first = fits(given)[0]
    assert (first.family, first.role, first.keypoints, dict(first.options)) == (family, role, keypoints, dict(options))
    assert (first.pixels.height, first.pixels.width) == (given.height, given.width)


def test_a_graph_that_takes_bytes_normalises_them_itself() -> None:
    given = graph(192, 256, {"output": (1, 17, 64, 48)})
    taken = replace(given, image=replace(given.image, dtype=np.dtype(np.uint8)))
    assert fits(taken)[0].pixels == PixelInput(256, 192)
    assert fits(given)[0].pixels.mean == (123.675, 116.28, 103.53)


def test_only_two_kinds_of_graphs_are_read_by_two_roles() -> None:
    several = {case: [(fit.family, fit.role) for fit in fits(given)] for case, (given, *_) in CASES.items()}
    assert {case for case, found in several.items() if len(found) > 1} == {"keypoint r-cnn", "movenet's heads"}


@pytest.mark.parametrize(
    "outputs",
    [
        {"logits": (1, 1000)},
        {"simcc_x": (1, 17, 384), "simcc_y": (1, 16, 512)},  # keypoints differ
        {"simcc_x": (1, 17, 512), "simcc_y": (1, 17, 384)},  # of another input
        {"maps": (1, 17, 64, 64)},  # of another aspect
        {"maps": (1, 64, 48, 17)},  # channels last
        {"dets": (1, 50, 5), "keypoints": (1, 50, 17, 2)},
        {"output": (1, 84, 8400)},  # objects of 80 classes
        {"output": (1, 300, 6)},  # no keypoints
        {},
    ],
)
def test_other_graphs_fit_nothing(outputs: dict[str, tuple[int, ...]]) -> None:
    assert fits(graph(192, 256, outputs)) == []


def test_every_rule_is_of_a_family() -> None:
    families = {*DETECTORS, *ESTIMATORS, *ONE_STAGE_MODELS}
    assert {name.split()[0] for name in taken_outputs()} <= families


@needs_shared
def test_real_graphs_fit_as_their_catalogue_says(tmp_path: Any) -> None:
    from engines.catalogue import load
    from engines.runtimes.openvino.ports import read_ports

    models = [model for model in load([weights_catalogue(tmp_path)]).values() if model.declared_in.parent == tmp_path]
    assert models
    for model in models:
        size = (model.input.height, model.input.width)
        [fit] = fits(read_ports(model.fetch(), size if model.family == "rtmdet" else None))
        assert (fit.family, fit.role) == (model.family, model.role)
        assert fit.pixels == model.input
        assert isinstance(fit.pixels, PixelInput)
        wanted = {key: value for key, value in model.options.items() if key != "quantised"}
        assert {key: fit.options[key] for key in wanted} == wanted
