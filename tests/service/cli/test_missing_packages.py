"""Commands where PyAV or pycocotools is not installed: those that use it say what to install, all others work."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.skeletons import COCO_17, POSETRACK_15
from service.formats.coco import coco_annotations, coco_results
from service.formats.posetrack import posetrack_document
from service.formats.sequence import PoseFrame, PoseSequence
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.service.formats.people import two_people
from tests.service.formats.sequences import save

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny catalogue, and in `images` and `videos` a file each; COCO's truth and results."""
    folder = tmp_path_factory.mktemp("missing")
    tiny_catalogue(folder)
    for name, file in (("images", "a.jpg"), ("videos", "a.mp4")):
        (folder / name).mkdir()
        (folder / name / file).write_bytes(encoded(photo(160, 120)))
    frame = PoseFrame("a.jpg", two_people(), number=42)
    save(folder / "truth.json", coco_annotations(PoseSequence("images", COCO_17, (frame,))))
    save(folder / "found.json", coco_results(two_people(), image_id=42))
    return folder


def run_without(package: str, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`, with a package hidden from all its processes."""
    hidden = folder / f"without-{package}"
    hidden.mkdir(exist_ok=True)
    (hidden / "sitecustomize.py").write_text(f"import sys; sys.modules[{package!r}] = None\n", "utf-8")
    variables = os.environ | {"POSEWIRE_CATALOGUE": "tiny.toml", "PYTHONPATH": f"{hidden}{os.pathsep}{_ROOT}"}
    arguments = [sys.executable, "-m", "service", *command.split()]
    return subprocess.run(arguments, cwd=folder, env=variables, capture_output=True, check=False, encoding="utf-8")


@pytest.mark.parametrize(
    ("package", "command", "says"),
    [
        ("av", "video videos/a.mp4 --poses a.json --model tiny", "videos need PyAV: pip install av"),
        ("av", "batch videos out --model tiny", "videos has videos, which need PyAV: pip install av"),
        (
            "pycocotools",
            "eval coco truth.json found.json",
            "COCO's metrics need pycocotools: pip install 'posewire[eval]'",
        ),
    ],
)
def test_a_command_that_needs_a_missing_package_says_what_to_install(
    folder: Path, package: str, command: str, says: str
) -> None:
    done = run_without(package, folder, command)
    assert (done.returncode, done.stderr) == (1, f"Error: {says}\n")


def test_images_need_no_pyav(folder: Path) -> None:
    for command in ("image images/a.jpg --model tiny", "batch images done --model tiny --workers 1"):
        done = run_without("av", folder, command)
        assert done.returncode == 0, done.stderr


def test_posetracks_metrics_need_no_pycocotools(folder: Path) -> None:
    coco = two_people()
    people = replace(
        coco, skeleton=POSETRACK_15, keypoints=coco.keypoints[:, :15], keypoint_scores=coco.keypoint_scores[:, :15]
    )
    frame = PoseFrame("a.jpg", people, head_boxes=np.array([[0, 0, 30, 40]] * 2, np.float32))
    save(folder / "video.json", posetrack_document(PoseSequence("video", POSETRACK_15, (frame,))))
    done = run_without("pycocotools", folder, "eval posetrack video.json video.json")
    assert done.returncode == 0, done.stderr
