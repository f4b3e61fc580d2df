"""The PersonLab family, on synthetic heatmaps and offsets as the paper defines them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engines.catalogue import load
from engines.families import open_one_stage_model
from engines.families.personlab import PersonLab
from engines.inputs import PixelInput
from engines.ops.affine import crop
from engines.ops.oks import oks
from engines.poses import Floats, Region
from engines.runtimes import open_runtime
from engines.skeletons import BLAZEPOSE_33, COCO_17
from tests.drawn import Outputs, personlab
from tests.people import standing
from tests.shared import SHARED, needs_shared, weights_catalogue

PIXELS = PixelInput(241, 321)  # a grid of 16 x 21 cells, 16 pixels apart
FAMILY = PersonLab(PIXELS, heatmaps="heat", short_offsets="short", mid_offsets="mid")
WHOLE = Region(160.5, 120.5, 321, 241)


def draw(*people: Floats) -> Outputs:
    """The outputs of a perfect network for these people."""
    return personlab(PIXELS.width, PIXELS.height, *people)


def test_the_keypoints_of_two_people_are_found_and_not_mixed_up() -> None:
    left, right = standing(90, 120, 180), standing(230, 115, 170)
    [poses] = FAMILY.decode(draw(left, right), [WHOLE])
    assert len(poses) == 2
    alike = oks(np.stack([left, right]), poses.keypoints, np.full(2, 9000.0), COCO_17.sigmas)
    assert sorted(alike.argmax(axis=1)) == [0, 1]
    assert (alike.max(axis=1) > 0.95).all()
    assert ((poses.scores > 0.5) & (poses.scores <= 1)).all()
    assert (np.diff(poses.scores) <= 0).all()


def test_boxes_contain_the_keypoints_and_results_are_in_frame_pixels() -> None:
    person = standing(160, 120, 180)
    region = FAMILY.region(642, 482)  # twice as large as the input
    [poses] = FAMILY.decode(draw(person), [region])
    np.testing.assert_allclose(poses.keypoints[0], 2 * person, atol=1.0)
    x1, y1, x2, y2 = poses.boxes[0]
    assert (poses.keypoints[0] > (x1, y1)).all()
    assert (poses.keypoints[0] < (x2, y2)).all()


def test_a_hidden_keypoint_is_placed_by_its_neighbours_offset_with_a_low_score() -> None:
    person = standing(160, 120, 180)
    fields = draw(person)
    fields["heat"][..., 9] = -6  # nothing shows the left wrist
    [poses] = FAMILY.decode(fields, [WHOLE])
    assert poses.keypoint_scores[0, 9] < 0.01
    assert np.linalg.norm(poses.keypoints[0, 9] - person[9]) < 16
    assert (np.delete(poses.keypoint_scores[0], 9) > 0.5).all()


def test_a_person_with_the_same_keypoints_as_a_better_one_is_dropped() -> None:
    person = standing(160, 120, 180)
    [poses] = FAMILY.decode(draw(person, person + 4), [WHOLE])
    assert len(poses) == 1


def test_quantised_outputs_are_dequantised() -> None:
    person = standing(160, 120, 180)
    real = draw(person)
    scales = {"heat": (0.05, 128), "short": (0.25, 128), "mid": (1.4, 117)}
    whole = {
        name: np.rint(values / scales[name][0] + scales[name][1]).clip(0, 255).astype(np.uint8)
        for name, values in real.items()
    }
    family = PersonLab(PIXELS, heatmaps="heat", short_offsets="short", mid_offsets="mid", quantised=scales)
    [poses] = family.decode(whole, [WHOLE])
    np.testing.assert_allclose(poses.keypoints[0], person, atol=1.0)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
def test_garbage_is_dropped(garbage: float) -> None:
    everywhere = {name: np.full_like(values, garbage) for name, values in draw().items()}
    [poses] = FAMILY.decode(everywhere, [WHOLE])
    assert len(poses) == 0


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30, -1e30])
@pytest.mark.parametrize("where", ["heat", "short", "mid"])
def test_garbage_in_one_output_is_dropped(garbage: float, where: str) -> None:
    fields = draw(standing(160, 120, 180))
    fields[where][...] = garbage
    [poses] = FAMILY.decode(fields, [WHOLE])
    assert len(poses) == 0


def test_other_skeletons_and_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="blazepose-33"):
        PersonLab(PIXELS, BLAZEPOSE_33)
    with pytest.raises(ValueError, match="min_score 2"):
        PersonLab(PIXELS, min_score=2)
    with pytest.raises(ValueError, match="quantised names heatmap;"):
        PersonLab(PIXELS, quantised={"heatmap": (1, 0)})


@needs_shared
def test_posenet_finds_the_people_of_a_photograph(tmp_path: Path) -> None:
    model = load([weights_catalogue(tmp_path)])["posenet"]
    family = open_one_stage_model(model)
    runtime = open_runtime(model.fetch(), precision="fp32", pixels=family.pixels, outputs=family.outputs, max_batch=1)
    frame = np.asarray(Image.open(SHARED / "data/coco/000000214753.jpg").convert("RGB"))
    region = family.region(frame.shape[1], frame.shape[0])
    batch = np.empty((1, family.pixels.height, family.pixels.width, 3), np.uint8)
    crop(frame, region, family.pixels, batch[0])
    [poses] = family.decode(runtime.run({runtime.spec.inputs[0].name: batch}), [region])
    runtime.close()
    truth = json.loads((SHARED / "data/coco/person_keypoints.json").read_text("utf-8"))["annotations"]
    people = [person for person in truth if person["image_id"] == 214753 and person["num_keypoints"] > 8]
    known = np.array([person["keypoints"] for person in people], np.float32).reshape(-1, 17, 3)
    areas = np.array([person["area"] for person in people])
    alike = oks(known[..., :2], poses.keypoints, areas, COCO_17.sigmas, (known[..., 2] > 0).astype(np.float32))
    assert len(people) == 2
    assert (alike.max(axis=1) > 0.75).all()
    assert (poses.scores[:2] > 0.5).all()
