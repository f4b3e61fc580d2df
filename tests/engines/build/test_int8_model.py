"""`posewire build MODEL --precision int8`: an int8 version of a catalogue model for OpenVINO."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("onnxscript", reason="needs onnx and onnxscript: pip install 'posewire[torch]'")

from engines.build.int8_model import build_int8
from engines.build.precision.convert import PrecisionError
from engines.catalogue import load
from engines.runtimes import open_runtime
from service.cli.main import main
from tests.engines.build.small import save_network, spot_finder, spots
from tests.pictures import encoded
from tests.servers import ServerProcess

SPOTS = """
[models.spots]
title = "finds spots"
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
accuracy = "AP 1 (spots)"
source = { kind = "file", path = "spots.onnx" }
input = { width = 24, height = 32 }
options = { refinement = "dark" }
"""


def spot_catalogue(folder: Path) -> Path:
    """A catalogue file with the model `spots`."""
    save_network(folder / "spots.onnx", constants=spot_finder())
    path = folder / "spots.toml"
    path.write_text(SPOTS, "utf-8")
    return path


def pictures(folder: Path, count: int) -> Path:
    """This many images of spots."""
    folder.mkdir()
    for number, image in enumerate(spots(count)):
        Image.fromarray(image.transpose(1, 2, 0).astype(np.uint8)).save(folder / f"{number:03}.png")
    return folder


def test_the_int8_version_is_a_separate_model_with_int8_in_its_title(tmp_path: Path) -> None:
    catalogue = load([spot_catalogue(tmp_path)])
    built = build_int8(catalogue["spots"], catalogue, pictures(tmp_path / "images", 24), tmp_path / "out")
    assert built.report.passed
    assert (built.report.crops, built.report.compared) == (12, 12 * 17)
    assert built.kept == {}

    int8 = load([built.catalogue])["spots-int8"]
    assert (int8.title, int8.accuracy) == ("finds spots, int8", "before int8: AP 1 (spots)")
    assert (int8.input, int8.options) == (catalogue["spots"].input, {"refinement": "dark"})
    with closing(open_runtime(int8.fetch(), precision="fp32", pixels=int8.input)) as runtime:
        assert runtime.spec.precision == "int8"
    with closing(open_runtime(catalogue["spots"].fetch(), precision="fp32")) as runtime:
        assert runtime.spec.precision == "fp32"


def test_an_inaccurate_model_is_refused_and_leaves_no_files(tmp_path: Path) -> None:
    catalogue = load([spot_catalogue(tmp_path)])
    folder = pictures(tmp_path / "images", 16)
    for path in sorted(folder.iterdir())[::2]:  # the calibration images: their scales clip the others
        Image.new("RGB", (24, 32), (125, 125, 125)).save(path)
    with pytest.raises(PrecisionError, match="spots is not good enough in int8: int8 refused: "):
        build_int8(catalogue["spots"], catalogue, folder, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_command_builds_it_and_the_server_serves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(spot_catalogue(tmp_path)))
    images = pictures(tmp_path / "images", 16)
    done = CliRunner().invoke(
        main, ["build", "spots", "--precision", "int8", "--images", str(images), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "spots-int8.onnx: int8 passed (8 crops, 136 compared)" in done.stdout
    assert "posewire serve --model spots-int8" in done.stdout

    with ServerProcess("--model", "spots-int8", catalogue=tmp_path / "out/spots-int8.toml") as server:
        [told] = httpx.get(f"{server.url}/models").json()
        assert told["precision"] == "int8"
        body = encoded(Image.open(images / "003.png"), "PNG")
        answer = httpx.post(f"{server.url}/pose", content=body, headers={"Content-Type": "image/png"}, timeout=30)
    [person] = answer.json()["people"]
    assert len(person["keypoints"]) == 17


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--precision", "int8"), "int8 takes its scales from real images: give a folder of them with --images"),
        (("--precision", "int8", "--images", "few"), "gives 3 crops; int8 takes at least 8, better 100"),
        (("--precision", "int8", "--images", "nowhere"), "nowhere is not a folder of images"),
    ],
)
def test_missing_requirements_are_reported_in_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(spot_catalogue(tmp_path)))
    pictures(tmp_path / "few", 3)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["build", "spots", *arguments])
    assert done.exit_code == 1
    assert says in done.stderr
