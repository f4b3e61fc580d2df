"""One-stage models with inputs of several shapes: each frame goes to the input that shows it largest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from engines.catalogue import CatalogueError, load
from engines.poses import Floats
from service.config import Settings
from service.inference.model_registry import ModelRegistry, open_serving
from service.inference.pipeline import Estimate
from service.inference.stage import InferenceOptions
from tests import drawn
from tests.graphs import save_constant_graph
from tests.people import standing
from tests.pictures import encoded, photo
from tests.scenarios import run

SHAPES: Mapping[str, tuple[int, int, Floats]] = {
    "square": (128, 128, standing(64, 64, 100)),
    "wide": (192, 128, standing(150, 64, 100)),
    "tall": (128, 192, standing(64, 130, 100)),
}
"""The (width, height) of the inputs, and the person whom the network finds in each."""


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    entries = []
    for name, (width, height, person) in SHAPES.items():
        save_constant_graph(tmp_path / f"{name}.xml", drawn.associative_embedding(width, height, person), width, height)
        shapes = 'shapes = ["wide", "tall"]' if name == "square" else ""
        entries.append(f"""
[models.{name}]
role = "bottom-up"
family = "associative_embedding"
skeleton = "coco-17"
{shapes}
source = {{ kind = "file", path = "{name}.xml" }}
input = {{ width = {width}, height = {height} }}
""")
    path = tmp_path / "shapes.toml"
    path.write_text("".join(entries), "utf-8")
    return path


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((256, 256), "square"),
        ((384, 256), "wide"),
        ((640, 360), "wide"),  # wider than any input: the frame fills its width
        ((280, 256), "wide"),
        ((256, 384), "tall"),
        ((90, 640), "tall"),
        ((1, 1), "square"),
    ],
)
def test_a_frame_goes_to_the_input_that_shows_it_largest(catalogue: Path, size: tuple[int, int], shape: str) -> None:
    serving = open_serving(load([catalogue]), ["square"], Settings())
    estimate = run(serving, serving.default.pipeline.image(encoded(photo(*size)), InferenceOptions()))
    width, height, person = SHAPES[shape]
    scale = max(size[0] / width, size[1] / height)
    assert (estimate.width, estimate.height) == size
    [points] = estimate.poses.keypoints
    np.testing.assert_allclose(points, person * scale, atol=3 * scale)


def test_frames_of_different_shapes_are_answered_at_once_and_by_their_deadline(catalogue: Path) -> None:
    serving = open_serving(load([catalogue]), ["square"], Settings())
    sizes = [(256, 256), (384, 256), (256, 384)] * 4
    pipeline = serving.default.pipeline

    async def answer(number: int, size: tuple[int, int]) -> Estimate:
        data = encoded(photo(*size))
        with pipeline.admit(InferenceOptions(client=str(number), deadline=1e9), data=[data]) as options:
            return await pipeline.image(data, options)

    async def scenario() -> list[Estimate]:
        return await asyncio.gather(*(answer(number, size) for number, size in enumerate(sizes)))

    answers = run(serving, scenario())
    assert [(estimate.width, estimate.height) for estimate in answers] == sizes
    assert all(stage.batcher.idle for stage in pipeline.stages), "no reservation is left"


def test_the_other_shapes_are_loaded_and_unloaded_with_their_model(catalogue: Path, tmp_path: Path) -> None:
    save_constant_graph(tmp_path / "rtmo.xml", drawn.rtmo(standing(64, 64, 100)), 128, 128)
    catalogue.write_text(
        catalogue.read_text("utf-8")
        + '[models.rtmo]\nrole = "one-stage"\nfamily = "rtmo"\nskeleton = "coco-17"\n'
        + 'source = { kind = "file", path = "rtmo.xml" }\ninput = { width = 128, height = 128 }\n',
        "utf-8",
    )
    models = load([catalogue])
    registry = ModelRegistry(models, Settings())
    registry.load([models["square"], models["rtmo"]])
    serving = registry.serving()
    assert set(serving.models) == {"square", "rtmo"}
    assert set(serving.runtimes) == {"square", "wide", "tall", "rtmo"}

    async def scenario() -> None:
        await registry.unload("square")
        assert set(serving.runtimes) == {"rtmo"}

    run(serving, scenario())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"tall"]', '"tell"]'), r"\[models.square\] shapes: is 'tell'; it must be one of .*wide, tall$"),
        (('"tall"]', '"rtmo-s"]'), "is 'rtmo-s'; it must be one of .*wide, tall$"),
        (('role = "bottom-up"', 'role = "estimator"'), "shapes: is a key of one-stage and bottom-up models alone"),
    ],
)
def test_other_shapes_must_be_of_the_same_kind(catalogue: Path, change: tuple[str, str], says: str) -> None:
    catalogue.write_text(catalogue.read_text("utf-8").replace(*change, 1), "utf-8")
    with pytest.raises(CatalogueError, match=says):
        load([catalogue])
