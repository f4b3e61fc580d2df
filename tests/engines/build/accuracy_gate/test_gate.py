"""The accuracy gate: a graph that finds other people than fp32 is refused, and the next precision is tried."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[torch]'")

from onnx import NodeProto
from onnx.reference import ReferenceEvaluator

from engines.build.accuracy_gate.gate import GateReport, Run, choose, compare
from engines.build.crop_decoder import LOW_SCORE, CropDecoder, CropResult, crop_decoder
from engines.build.precision.convert import Precision, convert
from engines.catalogue import load
from engines.families.heatmap import Heatmap
from engines.families.rtmdet import RTMDet
from engines.families.rtmo import RTMO
from engines.inputs import Arrays, PixelInput
from engines.poses import Region
from engines.skeletons import COCO_17
from tests import drawn
from tests.engines.build.small import Floats, images, save_network, spot_finder, spots, there_and_back
from tests.people import standing

WHOLE = Region(12, 16, 24, 32)
BATCHES = [{"images": spots()[:2]}, {"images": spots()[2:]}]


def read_spots(outputs: Arrays) -> Sequence[CropResult]:
    """Seventeen keypoints for each image."""
    family = Heatmap(PixelInput(32, 24), COCO_17)
    poses = family.decode({"maps": outputs["maps"]}, [WHOLE] * len(outputs["maps"]))
    return [poses.select(slice(n, n + 1)) for n in range(len(poses))]


def exactly(graph: Path) -> Run:
    """Every operator in its declared type, as on a GPU: runtimes for the CPU would use fp32 for unsupported types."""
    evaluator = ReferenceEvaluator(str(graph))

    def run(feeds: Arrays) -> Arrays:
        with np.errstate(over="ignore", invalid="ignore"):
            return {"maps": np.asarray(next(iter(evaluator.run(None, dict(feeds)))))}

    return run


def built(folder: Path, asked: Precision, middle: Sequence[NodeProto] = (), **constants: Floats) -> list[GateReport]:
    """The gate's reports on all precisions tried for a network with this middle, converted without calibration."""
    graph = save_network(folder / "small.onnx", middle, constants=spot_finder() | constants)
    fp32 = exactly(graph)

    def build(precision: Precision) -> Path:
        return convert(graph, folder / f"{precision}.onnx", precision).path

    def judge(precision: Precision, candidate: Path) -> GateReport:
        return compare(fp32, exactly(candidate), BATCHES, read_spots, precision)

    chosen, reports = choose(asked, build, judge)
    assert chosen.name == f"{reports[-1].precision if reports[-1].passed else 'fp32'}.onnx"
    return list(reports)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_an_accurate_network_passes_and_the_report_has_its_figures(precision: Precision, tmp_path: Path) -> None:
    [report] = built(tmp_path, precision)
    assert report.passed
    assert (report.crops, report.compared) == (4, 4 * 17)
    told = json.loads(report.to_json())
    assert told["passed"]
    assert 0 < told["outputs"] < 0.01
    assert (told["lost"], told["gained"], told["far"]) == (0, 0, 0)
    assert str(report) == f"{precision} passed (4 crops, 68 compared)"


def test_a_layer_that_overflows_in_fp16_falls_back_to_bf16(tmp_path: Path) -> None:
    middle, constants = there_and_back("Mul", "Div", 1e6)
    refused, taken = built(tmp_path, "fp16", middle, **constants)
    assert refused.failures == ("it gives values that are no numbers",)
    assert str(refused).startswith("fp16 refused: it gives values that are no numbers")
    assert (taken.precision, taken.passed) == ("bf16", True)


def test_a_layer_that_needs_more_digits_than_either_has_stays_in_fp32(tmp_path: Path) -> None:
    middle, constants = there_and_back("Add", "Sub", 4096)
    refused = built(tmp_path, "fp16", middle, **constants)
    assert [report.precision for report in refused] == ["fp16", "bf16"]
    assert all("lost 1.0000 is above 0.02" in report.failures for report in refused)


BOXES = np.array([[10, 10, 60, 110, 0.9], [80, 20, 140, 120, 0.8], [5, 5, 9, 9, 0.1]], np.float32)


def row(values: list[float]) -> Floats:
    """A change of each box and its score."""
    return np.array(values, np.float32)


def detector(rows: Floats) -> Run:
    """A graph that gives these boxes for every image."""
    return lambda feeds: {
        "dets": np.repeat(rows[None], len(feeds["images"]), axis=0),
        "labels": np.zeros((len(feeds["images"]), len(rows)), np.int64),
    }


def judged(want: Run, have: Run, read: CropDecoder, *, dense: bool = False) -> GateReport:
    """The report on a bf16 candidate for two images."""
    return compare(want, have, [{"images": images(2)}], read, "bf16", dense=dense)


def read_boxes(outputs: Arrays) -> Sequence[CropResult]:
    """The people found by a detector."""
    return RTMDet(PixelInput(160, 160), min_score=LOW_SCORE).decode(
        outputs, [Region(80, 80, 160, 160)] * len(outputs["dets"])
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda rows: rows[[1, 0, 2]], None),
        (lambda rows: rows + row([0.1, 0, 0.1, 0, 0.004]), None),
        (lambda rows: rows + row([4, 4, 4, 4, 0]), "far 1.0000 is above 0.02"),
        (lambda rows: rows[1:], "lost 0.5000 is above 0.02"),
        (lambda rows: rows + row([0, 0, 0, 0, 0.25]), "gained 0.5000 is above 0.02"),
        (lambda rows: rows - row([0, 0, 0, 0, 0.1]), "score 0.1000 is above 0.02"),
    ],
    ids=["another order", "rounding", "moved", "one lost", "one too many", "less sure"],
)
def test_a_detectors_boxes_are_found_again(spoil: Callable[[Floats], Floats], says: str | None) -> None:
    report = judged(detector(BOXES), detector(spoil(BOXES)), read_boxes)
    assert report.compared == 4
    assert report.passed == (says is None), report.failures
    assert says is None or says in report.failures


def test_people_in_a_frame_are_matched_before_their_keypoints_are_compared() -> None:
    people = [standing(100, 150, 200), standing(300, 200, 200)]

    def read(outputs: Arrays) -> Sequence[CropResult]:
        return RTMO(PixelInput(416, 416), COCO_17).decode(outputs, [Region(208, 208, 416, 416)] * 2)

    def finder(*seen: Floats) -> Run:
        return lambda _: {key: np.repeat(value, 2, axis=0) for key, value in drawn.rtmo(*seen).items()}

    same = judged(finder(*people), finder(*people[::-1]), read)
    assert same.passed
    assert (same.compared, same.distance) == (2 * 2 * 17, 0)
    moved = judged(finder(*people), finder(people[0], people[1] + 9), read)
    assert moved.far == 0.5
    assert not moved.passed


def test_raw_outputs_are_compared_if_fp32_finds_no_people() -> None:
    faint = BOXES * row([1, 1, 1, 1, 0.1])
    assert judged(detector(faint), detector(faint[::-1]), read_boxes).passed
    report = judged(detector(faint), detector(faint * np.float32(1.4)), read_boxes)
    assert (report.compared, report.failures) == (0, ("outputs 0.4000 is above 0.3",))
    assert judged(detector(faint), detector(BOXES), read_boxes).failures[0].startswith("gained")
    assert not judged(detector(faint), detector(faint[::-1]), read_boxes, dense=True).passed


def test_crops_are_required() -> None:
    with pytest.raises(ValueError, match="needs crops to compare on"):
        compare(detector(BOXES), detector(BOXES), [], read_boxes, "fp16")


def test_every_model_of_the_catalogue_can_be_decoded() -> None:
    for model in load([]).models():
        assert callable(crop_decoder(model))


def test_a_box_at_the_threshold_is_not_lost_by_rounding() -> None:
    edge = BOXES.copy()
    edge[2] = (20, 130, 60, 158, 0.305)
    less = edge - row([0, 0, 0, 0, 0.01])
    report = judged(detector(edge), detector(less), read_boxes)
    assert (report.compared, report.lost, report.passed) == (6, 0, True)
    assert judged(detector(less), detector(edge), read_boxes).gained == 0
