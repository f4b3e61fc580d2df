"""`posewire eval`: a table, JSON, and errors in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from engines.poses import Poses
from engines.skeletons import COCO_17, COCO_WHOLEBODY_133, POSETRACK_15
from service.cli.main import main
from service.formats.coco import coco_annotations, coco_results
from service.formats.posetrack import posetrack_document
from service.formats.sequence import PoseFrame, PoseSequence
from tests.service.formats.people import two_people
from tests.service.formats.sequences import save
from tests.shared import SHARED, needs_shared

_HEADS = np.array([[0, 0, 30, 40], [100, 0, 130, 40]], np.float32)


def posewire(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def people(*ids: int) -> Poses:
    """Two people with all joints found, with ids if given."""
    poses = two_people()
    return replace(
        poses,
        skeleton=POSETRACK_15,
        keypoints=poses.keypoints[:, :15],
        keypoint_scores=np.ones((2, 15), np.float32),
        ids=np.array(ids, np.int64) if ids else None,
    )


def video(path: Path, *frames: Poses) -> Path:
    """A PoseTrack file with head boxes."""
    listed = tuple(PoseFrame(f"{n}.jpg", poses, head_boxes=_HEADS) for n, poses in enumerate(frames))
    path.parent.mkdir(exist_ok=True)
    return save(path, posetrack_document(PoseSequence("video", POSETRACK_15, listed)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """gt and pred: a sequence of four frames in which two people change their ids once, and another without mistakes;
    COCO's truth, and perfect results."""
    video(tmp_path / "gt/a.json", *[people(1, 2)] * 4)
    video(tmp_path / "pred/a.json", people(5, 6), *[people(6, 5)] * 3)
    video(tmp_path / "gt/b.json", *[people(1, 2)] * 2)
    video(tmp_path / "pred/b.json", *[people(1, 2)] * 2)
    frame = PoseFrame("a.jpg", two_people(), number=42)
    save(tmp_path / "coco.json", coco_annotations(PoseSequence("images", COCO_17, (frame,))))
    save(tmp_path / "results.json", coco_results(two_people(), image_id=42))
    return tmp_path


def test_posetrack_metrics_are_printed_and_written(folder: Path) -> None:
    done = posewire("posetrack", folder / "gt", folder / "pred", "--exact", "--json", folder / "out.json")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["%", "Head", "Shou", "Elb", "Wri", "Hip", "Knee", "Ankl", "Total"]
    assert lines[1].split() == ["AP", *["100.0"] * 8]
    assert lines[2].split() == ["MOTA", *[f"{100 * (1 - 2 / 12):.1f}"] * 8]  # two switches in six frames of two people
    assert [line.split()[0] for line in lines[3:6]] == ["MOTP", "precision", "recall"]
    assert "2 switches, 0 misses, 0 false positives" in lines[6]

    document = json.loads((folder / "out.json").read_text("utf-8"))
    assert document["MOTA"]["left_knee"] == pytest.approx(100 * 10 / 12)
    assert document["MOTA"]["Total"] == pytest.approx(100 * 10 / 12)
    assert document["people"]["IDF1"] == pytest.approx(10 / 12)
    assert document["people"]["switches"] == 2


def test_posevals_metrics_are_the_default(folder: Path) -> None:
    lines = posewire("posetrack", folder / "gt/a.json", folder / "pred/a.json").stdout.splitlines()
    assert lines[2].split()[:2] == ["MOTA", f"{100 * (1 - 2 / 6):.1f}"]  # the last of four frames is left out


def test_results_of_one_file_may_be_in_a_folder(folder: Path) -> None:
    assert posewire("posetrack", folder / "gt/a.json", folder / "pred").exit_code == 0


def test_results_without_ids_have_no_tracking_metrics(folder: Path) -> None:
    video(folder / "pred/a.json", *[people()] * 4)
    done = posewire("posetrack", folder / "gt/a.json", folder / "pred/a.json")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["%", "AP", "precision", "recall", "Tracking"]


def test_undefined_metrics_are_a_dash_and_null(folder: Path) -> None:
    truth = people(1, 2)
    truth.keypoint_scores[:, [POSETRACK_15.keypoints.index(f"{side}_hip") for side in ("left", "right")]] = 0
    video(folder / "gt/a.json", *[truth] * 4)
    done = posewire("posetrack", folder / "gt/a.json", folder / "pred/a.json", "--json", folder / "out.json")
    assert done.stdout.splitlines()[1].split()[5] == "-"
    assert json.loads((folder / "out.json").read_text("utf-8"))["AP"]["Hip"] is None


def test_coco_metrics_are_printed_and_written(folder: Path) -> None:
    done = posewire("coco", folder / "coco.json", folder / "results.json", "--json", folder / "out.json")
    names, figures = (line.split() for line in done.stdout.splitlines())
    assert dict(zip(names, figures, strict=True))["AP"] == "1.000"
    assert json.loads((folder / "out.json").read_text("utf-8"))["ap_per_threshold"] == pytest.approx([1] * 10)


@needs_shared
def test_results_may_be_a_folder_of_files(folder: Path) -> None:
    metrics = SHARED / "goldens/metrics"
    rows = json.loads((metrics / "coco_synth_pred.json").read_text("utf-8"))
    (folder / "parts").mkdir()
    for n in range(3):
        save(folder / f"parts/{n}.json", rows[n::3])
    done = posewire("coco", metrics / "coco_synth_gt.json", folder / "parts")
    assert done.stdout.splitlines()[1].split()[0] == "0.414"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("posetrack", "gt", "nowhere"), 2, "'nowhere' does not exist"),
        (("posetrack", "gt", "pred/a.json"), 1, "pred/a.json: is one file, but gt has 2; name a folder"),
        (("posetrack", "gt", "empty"), 1, "empty/a.json: is not there, one of 2 of 2 sequences without results"),
        (("posetrack", "empty", "pred"), 1, "empty: has no *.json"),
        (("posetrack", "coco.json", "coco.json"), 1, "coco.json: categories[0].keypoints lacks head_bottom, head_top"),
        (("posetrack", "gt/a.json", "twice.json"), 1, "a: the results of 0.jpg name track id 5 twice"),
        (("coco", "results.json", "results.json"), 1, "results.json: is a list, as results are"),
        (("coco", "coco.json", "coco.json"), 1, "coco.json: is an object; COCO's results are a list"),
        (("coco", "coco.json", "other.json"), 1, "other.json: the truth has no image 43"),
        (("coco", "coco.json", "broken.json"), 1, "broken.json: is not JSON"),
        (("coco", "coco.json", "results.json", "--json", "nowhere/x.json"), 1, "nowhere/x.json: cannot be written"),
    ],
)
def test_user_errors_are_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, says: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "broken.json").write_text('[{"image_id": 42', "utf-8")
    save(folder / "other.json", coco_results(two_people(), image_id=43))
    video(folder / "twice.json", people(5, 5))
    monkeypatch.chdir(folder)
    done = posewire(*arguments)
    assert done.exit_code == code
    assert says in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == done.stderr.splitlines()[-1:]


def test_sigmas_are_of_a_skeleton_a_list_or_a_file(folder: Path) -> None:
    """Strict sigmas find fault with results that COCO's accept."""
    results = json.loads((folder / "results.json").read_text("utf-8"))
    for person in results:
        person["keypoints"][::3] = [x + 3 for x in person["keypoints"][::3]]
    moved = save(folder / "moved.json", results)
    numbers = ",".join(["0.001"] * 17)
    listed = folder / "sigmas.txt"
    listed.write_text(f"[{numbers}]\n", "utf-8")

    def ap(*more: object) -> float:
        done = posewire("coco", folder / "coco.json", moved, *more)
        assert done.exit_code == 0, done.output
        return float(done.output.splitlines()[1].split()[0])

    assert ap() == ap("--sigmas", "coco-17") > 0.5
    assert ap("--sigmas", numbers) == ap("--sigmas", listed) == 0


@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ("coco-71", "Error: sigmas coco-71: are no skeleton (coco-17, posetrack-15, "),
        ("0.1,0", "Error: sigmas 0.1,0: must be above 0 and at most 1"),
        ("nan", "Error: sigmas nan: must be above 0 and at most 1"),
        ("0.1," * 5000, "annotations[0].keypoints must be a list of 15000 numbers"),
        ("", "Error: sigmas : are no skeleton"),
        ("hand-21", "coco.json: annotations[0].keypoints must be a list of 63 numbers"),
    ],
)
def test_sigmas_that_do_not_fit_are_one_line(folder: Path, sigmas: str, message: str) -> None:
    done = posewire("coco", folder / "coco.json", folder / "results.json", "--sigmas", sigmas)
    assert done.exit_code == 1
    assert message in done.output
    assert done.output.count("\n") == 1


def test_keypoints_of_a_users_skeleton_are_known_or_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = json.loads((folder / "coco.json").read_text("utf-8"))
    names = [f"k{n}" for n in range(17)]
    truth["categories"][0]["keypoints"] = names
    own = save(folder / "own.json", truth)
    refused = posewire("coco", own, folder / "results.json")
    assert "keypoints are those of none of the skeletons" in refused.output
    assert "`posewire eval coco --sigmas` takes any keypoints" in refused.output
    assert posewire("coco", own, folder / "results.json", "--sigmas", "coco-17").exit_code == 0

    catalogue = folder / "own.toml"
    catalogue.write_text(f"[skeletons.own]\nkeypoints = {names}\n", "utf-8")
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(catalogue))
    assert posewire("coco", own, folder / "results.json").exit_code == 0


def test_whole_bodies_are_measured_over_the_members_of_coco_wholebody(folder: Path) -> None:
    points = np.random.default_rng(3).uniform(10, 400, (1, 133, 2)).astype(np.float32)
    box, one = np.array([[10, 10, 400, 400]], np.float32), np.ones(1, np.float32)
    poses = Poses(points, np.ones((1, 133), np.float32), box, one, COCO_WHOLEBODY_133)
    results = coco_results(poses, image_id=7)
    labelled = {**results[0], "id": 1, "area": 150_000, "iscrowd": 0, "num_keypoints": 17}
    truth = {
        "images": [{"id": 7}],
        "categories": [{"id": 1, "keypoints": COCO_17.keypoints}],
        "annotations": [labelled],
    }
    found = {**results[0], "face_kpts": np.zeros(3 * 68, np.float32)}

    def ap(*results: object) -> float:
        files = save(folder / "whole.json", truth), save(folder / "found.json", results)
        done = posewire("coco", *files, "--sigmas", "coco-wholebody-133")
        assert done.exit_code == 0, done.output
        return float(done.output.splitlines()[1].split()[0])

    assert ap(*results) == 1
    assert ap(found) == 0
