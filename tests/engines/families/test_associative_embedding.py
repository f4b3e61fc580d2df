"""The associative embedding family: from HigherHRNet's outputs to people, compared with its authors' code."""

from __future__ import annotations

import numpy as np
import pytest

from engines.families.associative_embedding import AssociativeEmbedding, aggregate, resize
from engines.inputs import PixelInput
from engines.ops.flip import MIRRORED
from engines.ops.oks import oks
from engines.poses import Floats, Region
from engines.skeletons import COCO_17
from tests.drawn import Outputs, associative_embedding
from tests.people import standing
from tests.shared import SHARED, needs_shared

PIXELS = PixelInput(256, 384)
FAMILY = AssociativeEmbedding(PIXELS, COCO_17)
WHOLE = Region(192, 128, 384, 256)


def outputs(*people: Floats) -> Outputs:
    """The outputs of a perfect network for these people."""
    return associative_embedding(PIXELS.width, PIXELS.height, *people)


def test_people_are_returned_in_frame_pixels() -> None:
    left, right = standing(110, 128, 200), standing(270, 128, 190)
    [poses] = FAMILY.decode(outputs(left, right), [WHOLE])
    alike = oks(np.stack([left, right]), poses.keypoints, np.full(2, 9000.0), COCO_17.sigmas)
    assert sorted(alike.argmax(axis=1)) == [0, 1]
    assert (alike.max(axis=1) > 0.9).all()
    assert (poses.scores > 0.6).all()
    larger = FAMILY.region(768, 512)
    [poses] = FAMILY.decode(outputs(left), [larger])
    np.testing.assert_allclose(poses.keypoints[0], 2 * left, atol=5)


def test_peaks_can_be_found_at_the_inputs_resolution() -> None:
    person = standing(200, 128, 200)
    [coarse] = FAMILY.decode(outputs(person), [WHOLE])
    [fine] = AssociativeEmbedding(PIXELS, COCO_17, project=True).decode(outputs(person), [WHOLE])
    np.testing.assert_allclose(fine.keypoints, coarse.keypoints, atol=3)


def test_the_flip_test_averages_the_mirror_image() -> None:
    person = standing(201.3, 128, 200)
    reflected = np.array([382, 0], np.float32) + person * np.array([-1, 1], np.float32)
    for left, right in COCO_17.pairs:
        reflected[[left, right]] = reflected[[right, left]]
    mirrored = {name + MIRRORED: maps for name, maps in outputs(reflected).items()}
    family = AssociativeEmbedding(PIXELS, COCO_17, flip=True)
    [poses] = family.decode({**outputs(person), **mirrored}, [WHOLE])
    assert len(poses) == 1
    np.testing.assert_allclose(poses.keypoints[0], person, atol=3)
    mirrored["out_high" + MIRRORED][...] = np.nan
    [poses] = family.decode({**outputs(person), **mirrored}, [WHOLE])
    assert len(poses) == 0


def test_missing_keypoints_lie_within_the_person_with_score_0() -> None:
    person = standing(200, 128, 200)
    maps = outputs(person)
    maps["out_low"][0, 9] = maps["out_high"][0, 9] = 0
    [poses] = FAMILY.decode(maps, [WHOLE])
    assert poses.keypoint_scores[0, 9] == 0
    x1, y1, x2, y2 = poses.boxes[0]
    x, y = poses.keypoints[0, 9]
    assert x1 < x < x2
    assert y1 < y < y2


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("where", ["out_low", "out_high", "both"])
def test_garbage_is_dropped(garbage: float, where: str) -> None:
    maps = outputs(standing(200, 128, 200)) if garbage else outputs()
    for name in maps if where == "both" else [where]:
        maps[name][...] = garbage
    [poses] = FAMILY.decode(maps, [WHOLE])
    assert len(poses) == 0


def test_an_order_must_name_each_keypoint_once() -> None:
    with pytest.raises(ValueError, match=r"must name each of 0..16 once"):
        AssociativeEmbedding(PIXELS, COCO_17, order=[0, 0, 1])


@needs_shared
@pytest.mark.parametrize("keypoints", [14, 17])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_maps_are_aggregated_as_by_the_authors(keypoints: int, mirror: bool, projected: bool) -> None:
    golden = np.load(SHARED / f"goldens/decoders/ae_aggregate_j{keypoints}.npz")
    first = 1 if keypoints == 17 else 0  # left and right alternate, after the nose or from the start
    pairs = [(n, n + 1) for n in range(first, keypoints if first else 12, 2)]
    other = (golden["low_of_flipped"][0], golden["high_of_flipped"][0]) if mirror else None
    maps = aggregate(golden["low"][0], golden["high"][0], other, pairs)
    heatmaps, tags = maps
    if projected:
        heatmaps = resize(heatmaps, 20, 30)
        tags = np.stack([resize(tags[..., t], 20, 30) for t in range(tags.shape[-1])], axis=-1)
    name = f"flip{int(mirror)}_proj{int(projected)}"
    np.testing.assert_allclose(heatmaps, golden[f"{name}_heatmaps"][0], atol=1e-5)
    np.testing.assert_allclose(tags, golden[f"{name}_tags"][0], atol=1e-5)
