"""Evaluation images: crops as the network takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[torch]'")

from engines.build.accuracy_gate.evaluation_images import as_inputs, crops_of_images, drawn_crops
from engines.build.accuracy_gate.images import CalibrationError, images_digest
from engines.catalogue import load
from engines.inputs import PixelInput
from tests.engines.build.small import save_network
from tests.graphs import tiny_catalogue
from tests.pictures import photo


def photos(folder: Path, count: int) -> Path:
    """A folder with `count` photos, each a little darker than the one before."""
    folder.mkdir()
    for number in range(count):
        photo().point([value // (number + 1) for value in range(256)] * 3).save(folder / f"{number:03}.png")
    (folder / "notes.txt").write_text("not an image", "utf-8")
    return folder


def test_an_estimator_gets_the_people_that_its_detector_finds(tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    crops = crops_of_images(photos(tmp_path / "photos", 3), catalogue["pair"], catalogue)
    assert crops.shape == (3 * 2, 256, 192, 3)
    assert crops[0].mean() > crops[2].mean() > crops[4].mean()
    assert not np.array_equal(crops[0], crops[1])


@pytest.mark.parametrize("name", ["tiny", "pair-detector"])
def test_other_models_get_the_whole_frame(name: str, tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    model = catalogue[name]
    crops = crops_of_images(photos(tmp_path / "photos", 2), model, catalogue)
    assert crops.shape == (2, model.input.height, model.input.width, 3)


def test_a_limited_number_of_images_is_evenly_spread(tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    folder = photos(tmp_path / "photos", 6)
    few = crops_of_images(folder, catalogue["tiny"], catalogue, limit=3)
    np.testing.assert_array_equal(few, crops_of_images(folder, catalogue["tiny"], catalogue)[::2])


def test_unusable_folders_are_reported(tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    with pytest.raises(CalibrationError, match="nowhere is not a folder of images"):
        crops_of_images(tmp_path / "nowhere", catalogue["tiny"], catalogue)
    folder = photos(tmp_path / "photos", 0)
    with pytest.raises(CalibrationError, match=r"there are no images in .*photos"):
        crops_of_images(folder, catalogue["tiny"], catalogue)
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(CalibrationError, match=r"torn\.jpg is not an image, or is damaged"):
        crops_of_images(folder, catalogue["tiny"], catalogue)


def test_the_digest_depends_on_the_images_and_the_detector(tmp_path: Path) -> None:
    catalogue = load([tiny_catalogue(tmp_path)])
    folder = photos(tmp_path / "photos", 2)
    digest = images_digest(folder, catalogue["pair"], catalogue)
    assert images_digest(folder, catalogue["tiny"], catalogue) != digest, "it has no detector"
    (folder / "001.png").rename(folder / "002.png")
    (folder / "notes.txt").write_text("of no interest", "utf-8")
    assert images_digest(folder, catalogue["pair"], catalogue) == digest
    photo().save(folder / "003.png")
    assert images_digest(folder, catalogue["pair"], catalogue) != digest


def test_crops_become_the_input_of_a_graph(tmp_path: Path) -> None:
    graph = save_network(tmp_path / "small.onnx")
    pixels = PixelInput(32, 24, "bgr", (10, 20, 30), (2, 4, 8))
    crops = drawn_crops(pixels, 3)
    batches = as_inputs(graph, crops, pixels)
    assert [batch["images"].shape for batch in batches] == [(1, 3, 32, 24)] * 3
    red = batches[1]["images"][0, 2]  # the last, as the network takes blue first
    np.testing.assert_allclose(red, (crops[1, ..., 0] - 30.0) / 8, rtol=1e-6)


def test_synthetic_crops_have_contrast_and_are_deterministic() -> None:
    crops = drawn_crops(PixelInput(64, 48), 4)
    assert (crops.std(axis=(1, 2, 3)) > 20).all()
    np.testing.assert_array_equal(crops, drawn_crops(PixelInput(64, 48), 4))
