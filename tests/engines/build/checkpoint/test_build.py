"""`posewire build`: from an author's checkpoint to POST /pose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch
from torch import Tensor, nn

from engines.build.checkpoint.build import BuildError, build_checkpoint, catalogue_text, network_inputs
from engines.build.checkpoint.built import BOTTOM_UP, BuildRequest, size_in
from engines.build.checkpoint.published import PUBLISHED, FinalHeatmaps
from engines.catalogue import load
from engines.catalogue.fetch.sources import CheckpointSource
from engines.networks import NETWORKS, build_network
from engines.plans.gpu import find_gpu
from service.cli.main import main
from tests.engines.networks.recipe import fill
from tests.frugal import run_frugally
from tests.pictures import encoded, photo
from tests.servers import ServerProcess


def posewire(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("POSEWIRE_")}
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, encoding="utf-8", check=False)


def empty_checkpoint(path: Path, architecture: str, num_keypoints: int) -> Path:
    """A checkpoint of zeros, which take no memory."""
    with torch.device("meta"):
        shapes = build_network(architecture, num_keypoints).state_dict()
    torch.save({key: torch.zeros(()).expand(tensor.shape) for key, tensor in shapes.items()}, path)
    return path


def test_a_checkpoint_becomes_a_model_that_post_pose_serves(tmp_path: Path) -> None:
    with torch.device("meta"):
        network = build_network("simple-baseline-r50")
    weights = {f"module.{key}": tensor for key, tensor in fill(network, gain=0.75).state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 140}, tmp_path / "pose_resnet_50_96x64.pth.tar")

    build = (
        *("build", "simple-baseline-r50", "--checkpoint", "pose_resnet_50_96x64.pth.tar"),
        *("--name", "mine", "--detector", "none", "--out", "models"),
    )
    done = posewire(*build, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine.onnx: input 96x64 bgr, coco-17, differs from torch by " in done.stdout
    catalogue = tmp_path / "models/mine.toml"
    assert f"POSEWIRE_CATALOGUE={catalogue} posewire serve --model mine" in done.stdout

    model = load([catalogue])["mine"]
    assert (model.title, model.commercial) == ("simple-baseline-r50 96x64, pose_resnet_50_96x64.pth.tar", False)

    if find_gpu() is None:
        assert "\nno plan is built: there is no GPU here, and CPUs run the graph as it is" in done.stdout
        int8 = posewire(*build, "--precision", "int8", folder=tmp_path)
        assert "int8 takes its scales from real images" in int8.stderr, (
            "the model exists; its int8 version is requested"
        )

    catalogue.write_text(catalogue.read_text("utf-8").replace('"unknown"', '"MIT"'), "utf-8")
    again = run_frugally(*build, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "mine.onnx: already built of pose_resnet_50_96x64.pth.tar" in again.stdout
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1], "how to serve it"
    assert load([catalogue])["mine"].licence == "MIT", "the user's edit is kept"

    with ServerProcess("--model", "mine", catalogue=catalogue) as server:
        answer = httpx.post(
            f"{server.url}/pose",
            params={"min_score": 0},
            content=encoded(photo()),
            headers={"Content-Type": "image/jpeg"},
            timeout=30,
        )
    assert answer.status_code == 200, answer.text
    [person] = answer.json()["people"]
    assert len(person["keypoints"]) == 17


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("alexnet",), "'alexnet' is not one of simple-baseline-r50, "),
        (("hrnet-w32", "--size", "250x192"), "cannot be 250x192 (height x width): both must be multiples of 32"),
        (("hrnet-w32", "--size", "large"), "'large' is not a height and a width such as 256x192"),
        (("hrnet-w32", "--name", "../mine"), "the name '../mine' must be of the form"),
        (("hrnet-w32", "--detector", "rtmdet-nono"), "did you mean rtmdet-nano"),
        (("hrnet-w32", "--for", "cpu", "--precision", "fp16"), "for the CPU there are int8 models to build"),
        (("hrnet-w32",), "empty.pth does not fit hrnet-w32: lacks "),
        (("simple-baseline-r50",), "empty.pth has 14 keypoints: say which skeleton that is; no skeleton here has as"),
    ],
)
def test_build_errors_are_one_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    empty_checkpoint(tmp_path / "empty.pth", "simple-baseline-r50", 14)
    paths = ("--checkpoint", str(tmp_path / "empty.pth"), "--out", str(tmp_path / "models"))
    done = CliRunner().invoke(main, ["build", *arguments, *paths])
    assert done.exit_code != 0
    assert says in done.stderr
    assert not list(tmp_path.glob("models/*"))


def test_a_skeleton_with_another_number_of_keypoints_is_refused(tmp_path: Path) -> None:
    checkpoint = empty_checkpoint(tmp_path / "empty.pth", "simple-baseline-r50", 15)
    with pytest.raises(BuildError, match="15 keypoints: coco-17 does not fit; of 15 keypoints there is posetrack-15"):
        build_checkpoint(BuildRequest("simple-baseline-r50", checkpoint, "mine", skeleton="coco-17"), tmp_path)


def test_a_catalogue_file_of_the_users_own_is_not_overwritten(tmp_path: Path) -> None:
    checkpoint = empty_checkpoint(tmp_path / "empty.pth", "simple-baseline-r50", 17)
    (tmp_path / "mine.toml").write_text("[models.other]\n", "utf-8")
    with pytest.raises(BuildError, match=r"mine\.toml is not a file that was built; choose another name or folder"):
        build_checkpoint(BuildRequest("simple-baseline-r50", checkpoint, "mine"), tmp_path)
    assert (tmp_path / "mine.toml").read_text("utf-8") == "[models.other]\n"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalogues_entries_match_the_built_models(name: str) -> None:
    row, made = load([])[name], PUBLISHED[name]
    assert isinstance(row.source, CheckpointSource)
    assert row.source.architecture == name
    assert row.input == made.pixels
    assert (row.role, row.family, row.options) == (made.role, made.family, made.options)


@pytest.mark.parametrize("architecture", BOTTOM_UP)
def test_a_bottom_up_network_is_built_for_square_wide_and_tall_frames(tmp_path: Path, architecture: str) -> None:
    published = PUBLISHED[architecture]
    side = published.pixels.width
    request = BuildRequest(architecture, Path("weights.pth"), "mine")
    inputs = network_inputs(published, request)
    assert [(pixels.width, pixels.height) for pixels in inputs] == [
        (side, side), (side * 3 // 2, side), (side, side * 3 // 2),
    ]  # fmt: skip
    assert all(length % published.side == 0 for pixels in inputs for length in (pixels.width, pixels.height))

    (tmp_path / "mine.toml").write_text(catalogue_text(request, published, inputs, "coco-17"), "utf-8")
    parts = load([tmp_path / "mine.toml"]).parts("mine")
    assert [part.name for part in parts] == ["mine", "mine-wide", "mine-tall"]
    assert [part.input for part in parts] == inputs
    assert [part.fetch().name for part in parts if (tmp_path / f"{part.name}.onnx").write_bytes(b"a graph")] == [
        graph.name for graph in request.graphs(tmp_path)
    ]


def test_a_size_that_is_given_or_in_the_files_name_is_the_only_one() -> None:
    for request in (
        BuildRequest("higherhrnet-w32", Path("weights.pth"), "mine", size=(512, 1024)),
        BuildRequest("higherhrnet-w32", Path("weights_512x1024.pth"), "mine"),
    ):
        [pixels] = network_inputs(PUBLISHED["higherhrnet-w32"], request)
        assert (request.names, pixels.height, pixels.width) == (("mine",), 512, 1024)


def test_sixteen_keypoints_are_mpii_16(tmp_path: Path) -> None:
    checkpoint = empty_checkpoint(tmp_path / "empty.pth", "simple-baseline-r50", 16)
    built = build_checkpoint(BuildRequest("simple-baseline-r50", checkpoint, "mine", size=(64, 64)), tmp_path)
    assert built.skeleton == "mpii-16"
    assert load([built.catalogue])["mine"].skeleton == "mpii-16"


def test_options_of_the_family_are_in_the_catalogue_file(tmp_path: Path) -> None:
    checkpoint = empty_checkpoint(tmp_path / "empty.pth", "cpn-r50", 17)
    built = build_checkpoint(BuildRequest("cpn-r50", checkpoint, "mine", size=(64, 64)), tmp_path)
    assert load([built.catalogue])["mine"].options == {"refinement": "blurred"}


def test_every_network_can_be_built_and_the_command_names_it() -> None:
    assert list(PUBLISHED) == list(NETWORKS)
    words = re.findall(r"[\w-]+", CliRunner().invoke(main, ["build", "--help"]).stdout)
    assert set(NETWORKS) <= set(words)


@pytest.mark.parametrize(
    ("filename", "size"),
    [
        ("pose_resnet_50_256x192.pth.tar", (256, 192)),
        ("pose_hrnet_w48_384x288-314c8528_20200708.pth", (384, 288)),
        ("CPN50_384x288.pth.tar", (384, 288)),
        ("pose_higher_hrnet_w32_512.pth", None),
        ("d256x3.pth", None),
    ],
)
def test_the_size_of_the_input_is_read_from_the_name(filename: str, size: tuple[int, int] | None) -> None:
    assert size_in(filename) == size


def test_the_last_of_several_outputs_is_served() -> None:
    class Stacks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images, 2 * images], dim=1)

    class Pyramid(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, 255 * images

    images = torch.ones(2, 3, 4, 4)
    torch.testing.assert_close(FinalHeatmaps(Stacks())(images), 2 * images)
    torch.testing.assert_close(FinalHeatmaps(Pyramid(), peak=255.0)(images), images)
