"""The `posewire` command as a user runs it: a process, its output, its exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from service.api.security import digest
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalogue of the tiny model and some images."""
    folder = tmp_path_factory.mktemp("cli")
    tiny_catalogue(folder)
    for n in range(3):
        (folder / f"{n}.jpg").write_bytes(encoded(photo(320, 240, seed=n)))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


def posewire(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "POSEWIRE_CATALOGUE": str(folder / "tiny.toml"), **environment}
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, encoding="utf-8", check=False)


def test_one_image_is_printed_as_an_object(folder: Path) -> None:
    done = posewire(folder, "image", "0.jpg", "--model", "tiny", "--min-score", "0")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["image"], result["width"], result["height"], result["skeleton"]) == ("0.jpg", 320, 240, "coco-17")
    assert len(result["people"][0]["keypoints"]) == 17


def test_several_images_are_printed_as_a_list_in_order(folder: Path) -> None:
    done = posewire(folder, "image", "2.jpg", "0.jpg", "1.jpg", "--model", "tiny")
    assert [result["image"] for result in json.loads(done.stdout)] == ["2.jpg", "0.jpg", "1.jpg"]


def test_formats_of_other_programs(folder: Path) -> None:
    options = ("--model", "tiny", "--min-score", "0", "--format")
    coco = json.loads(posewire(folder, "image", "0.jpg", "1.jpg", *options, "coco").stdout)
    assert [row["image_id"] for row in coco] == [0, 1]
    openpose = json.loads(posewire(folder, "image", "0.jpg", *options, "openpose").stdout)
    assert len(openpose["people"][0]["pose_keypoints_2d"]) == 75
    rows = list(csv.DictReader(io.StringIO(posewire(folder, "image", "0.jpg", *options, "csv").stdout)))
    assert (len(rows), rows[0]["image"], rows[0]["keypoint"]) == (17, "0.jpg", "nose")


def test_skeletons_are_drawn_to_a_picture_or_a_folder(folder: Path, tmp_path: Path) -> None:
    options = ("--model", "tiny", "--min-score", "0", "--render")
    posewire(folder, "image", "0.jpg", *options, str(tmp_path / "one.png"))
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (320, 240)
    posewire(folder, "image", "0.jpg", "1.jpg", *options, str(tmp_path / "drawn"))
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0.jpg", "1.jpg"]


def test_a_broken_image_is_one_line_and_others_are_done(folder: Path) -> None:
    done = posewire(folder, "image", "broken.jpg", "0.jpg", "--model", "tiny")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: broken.jpg: ")] == [
        done.stderr.strip()
    ]
    assert json.loads(done.stdout)["image"] == "0.jpg"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("image", "nowhere.jpg"), 2, "does not exist"),
        (("image", "0.jpg", "--model", "tinny"), 1, "did you mean tiny?"),
        (("image", "0.jpg", "1.jpg", "--model", "tiny", "--render", "x.jpg"), 2, "name a folder"),
        (("image", "0.jpg", "--model", "tiny", "--render", "0.jpg/x.png"), 1, "0.jpg: File exists"),
        (("serve", "--port", "99999"), 2, "setting port: Input should be less than or equal to 65535"),
        (("serve", "--model", ","), 2, "setting model: Tuple should have at least 1 item"),
        (("serve", "--model", "rtmdet-nano"), 1, "serve an estimator"),
        (("bench", "broken.jpg", "--model", "tiny"), 1, "broken.jpg: "),
        (("models", "fetch", "nobody"), 1, "no model is called 'nobody'"),
        (("dance",), 2, "No such command"),
    ],
)
def test_user_errors_are_one_clear_line(folder: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    done = posewire(folder, *arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("config", "nowhere.toml", "nowhere.toml cannot be read: No such file"),
        ("api_keys", "secret", "setting api_keys: number 1 is not a SHA-256 digest"),
        ("api_keys_file", "nowhere.txt", "setting api_keys_file: [Errno 2] No such file"),
    ],
)
def test_invalid_settings_are_reported_before_anything_starts(
    folder: Path, setting: str, value: str, says: str
) -> None:
    done = posewire(folder, "serve", "--model", "tiny", **{f"POSEWIRE_{setting.upper()}": value})
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_catalogue_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[models.x]\nrole = 'king'\n", "utf-8")
    done = posewire(folder, "models", "list", POSEWIRE_CATALOGUE=str(tmp_path / "mine.toml"))
    assert done.returncode == 1
    assert "mine.toml" in done.stderr


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x07\x12\x00"])
def test_a_damaged_graph_is_named(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    (tmp_path / "mine.toml").write_text(
        '[models.bad]\nrole = "estimator"\nfamily = "heatmap"\nskeleton = "coco-17"\n'
        'source = { kind = "file", path = "bad.onnx" }\ninput = { width = 192, height = 256 }\n',
        "utf-8",
    )
    done = posewire(folder, "image", "0.jpg", "--model", "bad", POSEWIRE_CATALOGUE=str(tmp_path / "mine.toml"))
    assert done.returncode == 1
    *_, line = done.stderr.splitlines()  # libraries of OpenVINO may print messages before it
    assert line.startswith(f"Error: bad: {tmp_path}/bad.onnx cannot be run; it is damaged, or its input")
    assert "Traceback" not in done.stderr


def test_the_help_of_every_command_fits_into_its_line(folder: Path) -> None:
    assert "..." not in posewire(folder, "--help").stdout.partition("Commands:")[2]


def test_models_are_listed_for_people_and_programs(folder: Path) -> None:
    assert "tiny" in posewire(folder, "models").stdout
    rows = {row["name"]: row for row in json.loads(posewire(folder, "models", "list", "--json").stdout)}
    assert rows["tiny"]["here"]
    assert rows["blazepose"]["licence"] == "Apache-2.0"
    assert (rows["tiny"]["source"], rows["movenet-thunder"]["source"]) == ("file", "npm")


def test_fetching_a_model_prints_its_path(folder: Path) -> None:
    done = posewire(folder, "models", "fetch", "tiny")
    assert done.stdout.strip() == f"tiny: {folder / 'tiny.xml'}"


def test_fetching_the_best_default_says_which_it_is(folder: Path) -> None:
    best = folder / "best.toml"
    best.write_text('defaults = ["tiny"]\n' + (folder / "tiny.toml").read_text("utf-8"), "utf-8")
    done = posewire(folder, "models", "fetch", "auto", POSEWIRE_CATALOGUE=str(best))
    assert done.stdout.strip() == f"tiny: {folder / 'tiny.xml'}", done.stderr


def test_a_key_is_printed_with_its_digest(folder: Path) -> None:
    made, stored = (line.split(":")[1].strip() for line in posewire(folder, "key").stdout.splitlines())
    assert digest(made) == stored


def test_bench_measures_one_request_and_several_at_once(folder: Path) -> None:
    done = posewire(folder, "bench", "0.jpg", "--model", "tiny", "--seconds", "0.5", "--concurrency", "4")
    assert done.returncode == 0, done.stderr
    assert [line.split("at once")[0].strip() for line in done.stdout.splitlines() if "images/s" in line] == ["1", "4"]
