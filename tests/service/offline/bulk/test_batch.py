"""`posewire batch` as a user runs it. Results do not depend on interruptions."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.service.offline.bulk.runs import (
    KILLER,
    KILLING,
    STILLBORN,
    batch,
    between_images,
    descendants,
    end,
    failed,
    finish,
    in_a_video,
    is_worker,
    make_archive,
    needs_ray,
    results,
    start,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

IMAGES, VIDEOS, FRAMES = 79, 2, 100
SHARDS = 10 + VIDEOS
OPTIONS = ("--shard", 8, "--workers", 2)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and videos. The catalogue is two levels above it."""
    return make_archive(tmp_path_factory.mktemp("batch"), IMAGES, VIDEOS, FRAMES)


@pytest.fixture(scope="module")
def catalogue(archive: Path) -> Path:
    return archive.parent / "tiny.toml"


@pytest.fixture(scope="module")
def whole(archive: Path, catalogue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    code, said = batch(catalogue, archive, folder, *OPTIONS)
    assert code == 1, said
    last = said.splitlines()[-1]
    assert last == (
        f"{IMAGES + 1} images, {VIDEOS} videos ({VIDEOS * FRAMES} frames); 1 other files left out; "
        f"1 files failed, see {folder / 'failed.jsonl'}; --retry-failed tries them again"
    )
    return folder


def test_every_image_and_video_has_results(whole: Path) -> None:
    images = [json.loads(line) for line in (whole / "images.jsonl").read_text("utf-8").splitlines()]
    names = [image["image"] for image in images]
    assert names == sorted(n for n in names if "/" not in n) + sorted(n for n in names if "/" in n)
    assert len(names) == IMAGES
    assert {(image["width"], image["height"], len(image["people"])) for image in images} == {(160, 120, 2)}
    for n in range(VIDEOS):
        video = json.loads((whole / f"videos/{n:05}-{n}.mp4.json").read_text("utf-8"))
        assert (video["video"], len(video["frames"])) == (f"{n}.mp4", FRAMES)
        ids = {person["id"] for frame in video["frames"][2:] for person in frame["people"]}
        assert len(ids) == 2


def test_failed_files_are_listed_with_their_problems(whole: Path) -> None:
    assert failed(whole) == {"broken.jpg": "undecodable"}
    assert "truncated JPEG" in (whole / "failed.jsonl").read_text("utf-8")


def test_the_digests_are_those_of_the_results(whole: Path) -> None:
    sums = [line.split("  ") for line in (whole / "SHA256SUMS").read_text("utf-8").splitlines()]
    assert [name for _, name in sums] == [
        "failed.jsonl", "images.jsonl", "videos/00000-0.mp4.json", "videos/00001-1.mp4.json"
    ]  # fmt: skip
    assert all(hashlib.sha256((whole / name).read_bytes()).hexdigest() == digest for digest, name in sums)


def test_results_of_images_equal_those_of_posewire_image(archive: Path, catalogue: Path, whole: Path) -> None:
    first = json.loads((whole / "images.jsonl").read_text("utf-8").splitlines()[0])
    command = ["-m", "service", "image", str(archive / "000.jpg"), "--model", "pair", "--min-score", "0"]
    environment = {**os.environ, "POSEWIRE_CATALOGUE": str(catalogue)}
    done = subprocess.run([sys.executable, *command], capture_output=True, env=environment, check=True)
    assert json.loads(done.stdout) | {"image": "000.jpg"} == first


@pytest.mark.parametrize("where", [(), pytest.param(("--ray",), marks=needs_ray)], ids=["processes", "ray"])
def test_after_kill_9_the_same_command_gives_the_results_of_an_uninterrupted_run(
    archive: Path, catalogue: Path, whole: Path, tmp_path: Path, where: tuple[str, ...]
) -> None:
    folder = tmp_path / "results"
    command = (archive, folder, *OPTIONS, *where)
    end(start(catalogue, *command), signal.SIGKILL, lambda: in_a_video(folder))
    assert where or list(folder.glob("parts/*.journal"))  # an actor of Ray may finish its video before it is killed
    end(start(catalogue, *command), signal.SIGKILL, lambda: between_images(folder))
    assert not (folder / "SHA256SUMS").exists()
    code, said = batch(catalogue, *command)
    assert code == 1, said
    done, of = re.findall(r"(\d+) of (\d+) shards were done by an earlier run", said)[0]
    assert 0 < int(done) < int(of)
    assert results(folder) == results(whole)


def test_a_killed_worker_is_replaced_and_its_shard_is_done_again(
    archive: Path, catalogue: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    run = start(catalogue, archive, folder, *OPTIONS)
    wait_for(lambda: run.poll() is not None or in_a_video(folder), timeout=120)
    victim = next(pid for pid in descendants(run.pid) if is_worker(pid))
    os.kill(victim, signal.SIGKILL)
    code, said = finish(run)
    assert code == 1, said
    assert [line for line in said.splitlines() if "a worker died at" in line and "(killed by SIGKILL)" in line]
    assert results(folder) == results(whole)


@pytest.mark.parametrize("where", [(), pytest.param(("--ray",), marks=needs_ray)], ids=["processes", "ray"])
def test_a_file_that_kills_workers_is_listed_and_its_neighbours_are_done(
    catalogue: Path, archive: Path, tmp_path: Path, where: tuple[str, ...]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLING, "utf-8")
    listed = [str(archive / f"more/{n:03}.jpg") for n in (1, 2, 4, 5)]
    (tmp_path / KILLER).write_bytes((archive / "more/007.jpg").read_bytes())
    (tmp_path / "list.txt").write_text("\n".join([*listed[:2], KILLER, *listed[2:]]), "utf-8")
    code, said = batch(catalogue, tmp_path / "list.txt", tmp_path / "with", "--workers", 1, *where, path=tmp_path)
    assert code == 1, said
    assert failed(tmp_path / "with") == {KILLER: "killed-worker"}
    (tmp_path / "list.txt").write_text("\n".join(listed), "utf-8")
    assert batch(catalogue, tmp_path / "list.txt", tmp_path / "without")[0] == 0
    assert (tmp_path / "with/images.jsonl").read_bytes() == (tmp_path / "without/images.jsonl").read_bytes()


def test_after_ctrl_c_the_command_says_that_it_can_continue(archive: Path, catalogue: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    run = start(catalogue, archive, folder, *OPTIONS)
    said = end(run, signal.SIGINT, lambda: in_a_video(folder))
    assert run.returncode == 130
    assert said.splitlines()[-1] == "Stopped; the same command goes on from here."
    assert "Traceback" not in said


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_gives_the_results_of_its_files(
    archive: Path, catalogue: Path, whole: Path, tmp_path: Path, kind: str
) -> None:
    files = sorted(archive.rglob("*.*"), key=lambda path: (len(path.relative_to(archive).parts), path))
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
            for path in files:
                packed.write(path, path.relative_to(archive))
    else:
        with tarfile.open(tmp_path / "all.tar", "w") as packed_tar:
            for path in files:
                packed_tar.add(path, path.relative_to(archive))
    code, said = batch(catalogue, tmp_path / f"all.{kind}", tmp_path / "results", *OPTIONS)
    assert code == 1, said
    for name in ("images.jsonl", "failed.jsonl", "SHA256SUMS", "videos/00000-0.mp4.json"):
        assert (tmp_path / "results" / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(tmp_path.glob("results/parts/*.scratch"))


def test_other_formats(archive: Path, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        f"{archive / '000.jpg'}\n{archive / 'more/001.jpg'}\n{archive / '0.mp4'}\n", "utf-8"
    )
    for style in ("coco", "csv"):
        code, said = batch(catalogue, tmp_path / "list.txt", tmp_path / style, "--format", style)
        assert code == 0, said
    people = json.loads((tmp_path / "coco/images.json").read_text("utf-8"))
    assert [person["image_id"] for person in people] == [0, 0, 1, 1]
    rows = list(csv.DictReader((tmp_path / "coco/image_ids.csv").read_text("utf-8").splitlines()))
    assert [(row["image_id"], Path(row["image"]).name) for row in rows] == [("0", "000.jpg"), ("1", "001.jpg")]
    tracked = json.loads((tmp_path / "coco/videos/00000-0.mp4.json").read_text("utf-8"))
    assert ({p["image_id"] for p in tracked}, len(tracked)) == (set(range(FRAMES)), 2 * FRAMES)
    table = list(csv.DictReader((tmp_path / "csv/images.csv").read_text("utf-8").splitlines()))
    assert len(table) == 2 * 2 * 17
    assert (
        (tmp_path / "csv/videos/00000-0.mp4.csv").read_text("utf-8").startswith("frame,time,person,id,score,keypoint")
    )
    assert (tmp_path / "csv/failed.jsonl").read_text("utf-8") == ""


def test_a_rerun_has_nothing_to_do(archive: Path, catalogue: Path, whole: Path) -> None:
    before = results(whole)
    code, said = batch(catalogue, archive, whole, *OPTIONS)
    assert code == 1
    assert f"{SHARDS} of {SHARDS} shards were done by an earlier run" in said
    assert len(said.splitlines()) == 1
    assert results(whole) == before


def test_workers_that_cannot_start_end_the_batch_with_a_line(archive: Path, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STILLBORN, "utf-8")
    code, said = finish(start(catalogue, archive, tmp_path / "results", *OPTIONS, path=tmp_path))
    assert code == 1
    assert said.splitlines()[-1] == (
        "Error: 3 workers died before they began (killed by SIGKILL); is there enough memory?"
    )


def test_a_full_disk_ends_the_batch_with_a_line(archive: Path, catalogue: Path, tmp_path: Path) -> None:
    run = start(catalogue, archive, tmp_path / "results", *OPTIONS)
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (40_000, 40_000))
    code, said = finish(run)
    assert code == 1
    assert said.splitlines()[-1].startswith("Error: cannot write ")
    assert said.splitlines()[-1].endswith("File too large")
    assert "Traceback" not in said
