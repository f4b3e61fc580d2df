"""Resized and warped crops agree with `Region.to_input`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engines.inputs import PixelInput
from engines.ops.affine import _warp, align, crop
from engines.poses import Frame, Region

WIDTH, HEIGHT = 160, 120
PIXELS = PixelInput(height=96, width=64, pad=7)


def blob(x: float, y: float, size: float = 6.0) -> Frame:
    """A frame with a blurred spot at the index (x, y)."""
    across, down = np.arange(WIDTH) - x, np.arange(HEIGHT) - y
    spot = np.exp(-(across**2 + down[:, None] ** 2) / (2 * size**2))
    return np.repeat((spot * 250).astype(np.uint8)[:, :, None], 3, axis=2)


def place_of_blob(picture: Frame) -> NDArray[np.float64]:
    """The index of the spot's centre of mass."""
    weight = picture[:, :, 0].astype(float)
    weight[weight < 20] = 0  # the padding
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]]
    return np.average(np.stack([x, y]).reshape(2, -1), axis=1, weights=weight.ravel())


def cropped(frame: Frame, region: Region, pixels: PixelInput = PIXELS) -> Frame:
    out = np.full((pixels.height, pixels.width, 3), 99, np.uint8)
    crop(frame, region, pixels, out)
    return out


@pytest.mark.parametrize(
    "region",
    [
        pytest.param(Region(80, 60, 64, 96), id="same size"),
        pytest.param(Region(80, 60, 80, 120), id="smaller"),
        pytest.param(Region(80, 60, 60, 60), id="stretched"),
        pytest.param(Region(80, 60, 160, 240), id="larger than the frame"),
        pytest.param(Region(80.3, 60.4, 70.7, 106.1), id="between pixels"),
        pytest.param(Region(70.3, 65.4, 180.7, 271.1), id="over the edge"),
        pytest.param(Region(80, 60, 64, 96, rotation=0.5), id="turned"),
        pytest.param(Region(78, 62, 120, 180, rotation=-2.5), id="turned and over the edge"),
    ],
)
@pytest.mark.parametrize("aligned", [False, True])
def test_a_point_of_the_frame_lies_where_the_region_maps_it(region: Region, aligned: bool) -> None:
    shown = align(region, WIDTH, HEIGHT, PIXELS) if aligned else region
    picture = cropped(blob(83, 57), shown)

    assert place_of_blob(picture) == pytest.approx(shown.to_input(64, 96) @ (83, 57, 1), abs=0.05)


def test_a_region_much_larger_than_the_input_is_placed_correctly() -> None:
    region = Region(80.3, 60.2, 150.4, 115.6)
    pixels = PixelInput(height=24, width=32)
    picture = cropped(blob(83, 57, size=15), region, pixels)

    assert place_of_blob(picture) == pytest.approx(region.to_input(32, 24) @ (83, 57, 1), abs=0.05)


sides = st.floats(20, 300)


@given(st.floats(-20, 180), st.floats(-20, 140), sides, sides)
def test_aligning_moves_edges_by_no_more_than_half_a_pixel_and_a_twentieth(
    x: float, y: float, width: float, height: float
) -> None:
    region = Region(x, y, width, height)
    aligned = align(region, WIDTH, HEIGHT, PIXELS)

    assert aligned.width == pytest.approx(width, rel=0.051)
    assert aligned.height == pytest.approx(height, rel=0.051)
    for new, old in (
        (aligned.center_x - aligned.width / 2, x - width / 2),
        (aligned.center_x + aligned.width / 2, x + width / 2),
    ):
        assert abs(new - old) <= 1 + width / PIXELS.width + 0.06 * width


@given(st.floats(0, 160), st.floats(0, 120), sides, sides)
def test_resizing_an_aligned_region_equals_warping_it(x: float, y: float, width: float, height: float) -> None:
    aligned = align(Region(x, y, width, height), WIDTH, HEIGHT, PIXELS)
    frame = blob(80, 60, size=25)
    quick = cropped(frame, aligned)
    exact = np.empty_like(quick)
    _warp(frame, aligned, PIXELS, exact)

    # Where the frame ends, a warp blends its last pixels with the padding and a resize does not.
    inner = exact[:, :, 0] != PIXELS.pad
    inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    difference = np.abs(quick.astype(int) - exact)[:, :, 0]
    assert np.quantile(difference[inner], 0.98) <= 3 if inner.any() else True


def test_letterboxed_frames_are_already_aligned() -> None:
    region = Region(80, 80, 160, 160)
    pixels = PixelInput(height=320, width=320, pad=114)
    aligned = align(region, WIDTH, HEIGHT, pixels)

    # A quarter of a frame pixel, as the pixels' centres move when each is cut in two.
    assert aligned == Region(79.75, 79.75, 160, 160)
    picture = cropped(np.full((HEIGHT, WIDTH, 3), 200, np.uint8), aligned, pixels)
    assert (picture[:240] == 200).all()
    assert (picture[240:] == 114).all()


@pytest.mark.parametrize("rotation", [0.0, 0.001])
def test_the_edge_can_be_repeated_instead_of_padding(rotation: float) -> None:
    frame = np.repeat(np.arange(50, 50 + WIDTH, dtype=np.uint8)[None, :, None], HEIGHT, axis=0).repeat(3, axis=2)
    pixels = PixelInput(height=96, width=64, pad="edge")
    picture = cropped(frame, align(Region(0, 60, 64, 96, rotation), WIDTH, HEIGHT, pixels), pixels)

    assert (picture[5:-5, :31] == 50).all()
    assert np.abs(picture[48, 32:, 0].astype(int) - np.arange(50, 82)).max() <= 1


@pytest.mark.parametrize("rotation", [0.0, 0.3])
def test_a_region_outside_the_frame_is_all_padding(rotation: float) -> None:
    frame = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    far = Region(-400, 60, 64.5, 96.5, rotation)

    assert (cropped(frame, far) == PIXELS.pad).all()
    assert (cropped(frame, Region(-400, 60, 64, 96)) == PIXELS.pad).all()


def test_rotated_regions_are_not_aligned() -> None:
    turned = Region(80.3, 60.3, 64.5, 96.5, rotation=0.1)
    assert align(turned, WIDTH, HEIGHT, PIXELS) is turned


@pytest.mark.parametrize(
    "region", [Region(80, 60, 64, 96), Region(80.4, 60.2, 64.3, 96.9), Region(80, 60, 999, 999, rotation=1.0)]
)
def test_only_one_slot_of_a_batch_is_written(region: Region) -> None:
    batch = np.full((3, PIXELS.height, PIXELS.width, 3), 99, np.uint8)
    crop(np.zeros((HEIGHT, WIDTH, 3), np.uint8), region, PIXELS, batch[1])

    assert (batch[1] != 99).all()
    assert (batch[[0, 2]] == 99).all()


def test_a_slot_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"out is \(64, 96, 3\), the network takes \(96, 64, 3\)"):
        crop(np.zeros((HEIGHT, WIDTH, 3), np.uint8), Region(1, 1, 2, 2), PIXELS, np.zeros((64, 96, 3), np.uint8))
