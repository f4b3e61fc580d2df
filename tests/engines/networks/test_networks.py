"""The networks: their parameters match the published checkpoints, their outputs those of the authors' code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.shared import SHARED, needs_shared

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch

from engines.networks import NETWORKS, build_network
from tests.engines.networks.recipe import fill, images

pytestmark = pytest.mark.slow

GOLDENS = {
    "simple-baseline-r50": ["simplebaseline_r50_256x192", "simplebaseline_r50_384x288"],
    "simple-baseline-r101": ["simplebaseline_r101_256x192"],
    "simple-baseline-r152": ["simplebaseline_r152_256x192"],
    "hrnet-w32": ["hrnet_w32_256x192"],
    "hrnet-w48": ["hrnet_w48_384x288"],
    "higherhrnet-w32": ["higherhrnet_w32_512"],
    "higherhrnet-w48": ["higherhrnet_w48_640"],
    "hourglass-8": ["hourglass_s8_256"],
    "cpn-r50": ["cpn_r50_256x192", "cpn_r50_384x288"],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def golden(name: str) -> Any:
    return json.loads((SHARED / f"goldens/models/{name}.json").read_text("utf-8"))


def layout(network: torch.nn.Module) -> dict[str, tuple[list[int], str]]:
    return {
        key: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in network.state_dict().items()
    }


@needs_shared
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_fits_the_authors_checkpoints_and_gives_the_outputs_of_their_code(name: str) -> None:
    with torch.device("meta"):  # `fill` sets every weight
        network = build_network(name)
    published = golden(f"{GOLDENS[name][0]}.layout")
    assert layout(network) == {key: (shape, dtype) for key, shape, dtype in published}

    fill(network, golden(GOLDENS[name][0])["gain"])
    for size in GOLDENS[name]:
        index = golden(size)
        arrays = np.load(SHARED / f"goldens/models/{size}.npz")
        with torch.inference_mode():
            given = network(images(*index["input_shape"]))
        outputs = given if isinstance(given, tuple) else (given,)
        for output, (array, about) in zip(outputs, index["outputs"].items(), strict=True):
            assert list(output.shape) == about["full_shape"]
            stride = about["stored_stride"]
            error = np.abs(output[..., ::stride, ::stride].numpy() - arrays[array]).max()
            assert error <= 1e-4 * np.abs(arrays[array]).max(), f"{size}, {array}"


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("simple-baseline-r50", [(2, 5, 16, 24)]),
        ("hrnet-w32", [(2, 5, 16, 24)]),
        ("higherhrnet-w32", [(2, 10, 16, 24), (2, 5, 32, 48)]),
        ("hourglass-8", [(2, 8, 5, 16, 32)]),
        ("cpn-r50", [(2, 5, 16, 24)] * 5),
    ],
)
def test_output_shapes_depend_on_the_images_and_the_number_of_keypoints(
    name: str, shapes: list[tuple[int, ...]]
) -> None:
    network = build_network(name, num_keypoints=5).eval()
    with torch.inference_mode():
        given = network(images(2, 3, 64, 128 if name == "hourglass-8" else 96))
    assert [tuple(output.shape) for output in (given if isinstance(given, tuple) else (given,))] == shapes


def test_an_unknown_network_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=r"'alexnet' is not one of simple-baseline-r50, .*cpn-r50"):
        build_network("alexnet")
    with pytest.raises(ValueError, match="at least one keypoint, not 0"):
        build_network("hrnet-w32", num_keypoints=0)
