"""Every whole-frame family gives valid results in bounded time, whatever the outputs of its graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from engines.families import DETECTORS, ONE_STAGE_MODELS
from engines.families.associative_embedding import AssociativeEmbedding
from engines.families.base import Detector, OneStageModel
from engines.families.centre_point import CentrePoint
from engines.families.detections import BoxDetector, KeypointDetector
from engines.families.detrpose import DETRPose
from engines.families.movenet import MoveNet
from engines.families.movenet_heads import MultiPoseHeads
from engines.families.nanodet import NanoDet
from engines.families.part_affinity import PartAffinity
from engines.families.personlab import PersonLab
from engines.families.rtmdet import RTMDet
from engines.families.rtmo import RTMO
from engines.families.yolo_pose import YOLOPose
from engines.families.yolox import YOLOX
from engines.inputs import PixelInput
from engines.poses import Floats
from engines.skeletons import COCO_17
from tests import drawn
from tests.drawn import Outputs
from tests.people import standing

PIXELS = PixelInput(256, 320)
GRID = PixelInput(241, 321)
PERSON = standing(150, 120, 200)
BOX = drawn.box_of(PERSON)


class Case(NamedTuple):
    """A family with its network's outputs for one person."""

    family: OneStageModel | Detector
    outputs: Outputs


CASES = {
    "associative_embedding": Case(AssociativeEmbedding(PIXELS, COCO_17), drawn.associative_embedding(320, 256, PERSON)),
    "keypoint_detections": Case(KeypointDetector(PIXELS, COCO_17), drawn.keypoint_rcnn(PERSON)),
    "detrpose": Case(DETRPose(PIXELS, COCO_17), drawn.detrpose(320, 256, PERSON)),
    "movenet": Case(MoveNet(PIXELS), drawn.movenet(320, 256, PERSON)),
    "movenet_heads": Case(MultiPoseHeads(PIXELS), drawn.movenet_heads(320, 256, PERSON)),
    "part_affinity": Case(PartAffinity(PIXELS), drawn.part_affinity(320, 256, PERSON)),
    "personlab": Case(
        PersonLab(GRID, heatmaps="heat", short_offsets="short", mid_offsets="mid"), drawn.personlab(321, 241, PERSON)
    ),
    "rtmo": Case(RTMO(PIXELS, COCO_17), drawn.rtmo(PERSON)),
    "yolo_pose": Case(YOLOPose(PIXELS, COCO_17), drawn.yolo_pose(PERSON)),
    "centre_point": Case(CentrePoint(PIXELS), drawn.centre_point(320, 256, BOX)),
    "nanodet": Case(NanoDet(PIXELS), drawn.nanodet(320, 256, BOX)),
    "detections": Case(BoxDetector(PIXELS), drawn.keypoint_rcnn(PERSON)),
    "rtmdet": Case(RTMDet(PIXELS), {"dets": drawn.rtmo(PERSON)["dets"], "labels": np.zeros((1, 2), np.int64)}),
    "yolox": Case(YOLOX(PIXELS), drawn.yolox(320, 256, BOX)),
}


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.normal(0, 1, shape).astype(np.float32)


def probable(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.uniform(0, 1, shape).astype(np.float32)


def large(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.normal(0, 300, shape).astype(np.float32)


def spikes(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Zeros with some values that are NaN, infinite or too large."""
    rare = rng.choice([np.nan, np.inf, -np.inf, 1e30, 1.0], shape)
    return np.where(rng.uniform(0, 1, shape) < 0.01, rare, 0).astype(np.float32)


def answer(case: Case, outputs: Outputs) -> tuple[int, Floats]:
    """The number of people, and all numbers of their results."""
    if isinstance(case.family, OneStageModel):
        [poses] = case.family.decode(outputs, [case.family.region(640, 480)])
        parts = [poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores]
        assert ((poses.keypoint_scores >= 0) & (poses.keypoint_scores <= 1)).all()
        scores = poses.scores
    else:
        [people] = case.family.decode(outputs, case.family.regions(640, 480))
        parts, scores = [people.boxes, people.scores], people.scores
    assert ((scores > 0) & (scores <= 1)).all()
    assert (np.diff(scores) <= 0).all()
    return len(scores), np.concatenate([part.ravel() for part in parts])


def test_every_whole_frame_family_is_covered() -> None:
    assert {*ONE_STAGE_MODELS, *DETECTORS} - {"blazepose_detector"} == {*CASES} - {"keypoint_detections"}


@pytest.mark.parametrize("name", CASES)
def test_one_person_is_found_once(name: str) -> None:
    count, _ = answer(CASES[name], CASES[name].outputs)
    assert count == 1


@pytest.mark.parametrize("noise", [normal, probable, large, spikes])
@pytest.mark.parametrize("name", CASES)
def test_noise_gives_numbers_in_their_ranges(name: str, noise: Callable[..., Floats]) -> None:
    case = CASES[name]
    rng = np.random.default_rng(5)
    outputs = {
        key: noise(rng, values.shape) if values.dtype == np.float32 else values for key, values in case.outputs.items()
    }
    started = time.process_time()
    _, numbers = answer(case, outputs)
    assert np.isfinite(numbers).all()
    assert time.process_time() - started < 5  # not a benchmark: checks that the work is bounded
