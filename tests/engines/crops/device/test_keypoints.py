"""Decoding on the device gives the same as `engines.ops.keypoint_decoding`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engines.ops.flip import MIRRORED
from engines.ops.keypoint_decoding import REFINEMENTS, HeatmapDecoder, KeypointDecoder, SimCCDecoder
from engines.poses import Floats
from engines.skeletons import COCO_17

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch

from engines.crops.device.keypoints import decode_keypoints

GARBAGE = [np.nan, np.inf, -np.inf, 0.0, 1e38, -1e38]
DECODERS = [HeatmapDecoder(192, 256, refinement) for refinement in REFINEMENTS]
Both = Callable[[KeypointDecoder, dict[str, Floats]], tuple[list[Floats], list[Floats]]]
DECODERS += [HeatmapDecoder(192, 256, "quarter", 1 / 255, COCO_17.pairs, shift) for shift in (False, True)]


def heatmaps(n: int, seed: int = 0) -> Floats:
    """(n, 17, 64, 48) maps with noise and one Gaussian peak each, some outside the map."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-2, 50, (2, n, 17, 1, 1))
    rows, columns = np.mgrid[:64, :48]
    spots = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8)
    noisy: Floats = (spots + rng.normal(0, 0.01, spots.shape)).astype(np.float32)
    return noisy


@pytest.fixture(params=["cpu", "cuda"])
def both(request: pytest.FixtureRequest) -> Both:
    """A function that returns (positions, scores) decoded by numpy and by torch on a device."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")

    def decode_both(decoder: KeypointDecoder, outputs: dict[str, Floats]) -> tuple[list[Floats], list[Floats]]:
        there = {name: torch.from_numpy(output).to(request.param) for name, output in outputs.items()}
        return list(decoder.decode(outputs)), [part.cpu().numpy() for part in decode_keypoints(decoder, there)]

    return decode_both


@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_heatmaps_are_decoded_as_by_numpy(both: Both, decoder: HeatmapDecoder) -> None:
    outputs = {"heatmaps": heatmaps(8), "heatmaps" + MIRRORED: heatmaps(8, seed=1)}
    here, there = both(decoder, outputs)
    np.testing.assert_allclose(there[0], here[0], atol=1e-3)
    np.testing.assert_allclose(there[1], here[1], rtol=1e-6)
    assert there[0].dtype == there[1].dtype == np.float32


def test_simcc_is_decoded_as_by_numpy(both: Both) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (8, 17, 384)), rng.normal(0, 1, (8, 17, 512))
    x[0, 0] -= 10  # nothing above 0: no such keypoint
    outputs = {"simcc_x": x.astype(np.float32), "simcc_y": y.astype(np.float32)}
    here, there = both(SimCCDecoder(2.0), outputs)
    np.testing.assert_array_equal(there[0], here[0])
    np.testing.assert_array_equal(there[1], here[1])
    np.testing.assert_array_equal(there[0][0, 0], [-0.5, -0.5])


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("decoder", DECODERS, ids=str)
def test_invalid_values_are_decoded_without_an_error(both: Both, decoder: HeatmapDecoder, garbage: float) -> None:
    maps = np.full((2, 17, 64, 48), garbage, np.float32)
    here, there = both(decoder, {"heatmaps": maps, "heatmaps" + MIRRORED: maps})
    np.testing.assert_array_equal(there[1], here[1])


@pytest.mark.parametrize("garbage", GARBAGE)
def test_invalid_values_of_simcc_are_decoded_without_an_error(both: Both, garbage: float) -> None:
    bins = np.full((2, 17, 384), garbage, np.float32)
    here, there = both(SimCCDecoder(), {"simcc_x": bins, "simcc_y": bins})
    np.testing.assert_array_equal(there[0], here[0])


def test_half_precision_outputs_are_decoded() -> None:
    maps = torch.from_numpy(heatmaps(2)).to(torch.bfloat16)
    places, scores = decode_keypoints(DECODERS[0], {"heatmaps": maps})
    here, _ = DECODERS[0].decode({"heatmaps": maps.float().numpy()})
    assert places.dtype == scores.dtype == torch.float32
    np.testing.assert_allclose(places.numpy(), here, atol=1e-3)
