"""`posewire video` as a user runs it: frames, times and sound are kept, and runs continue after a crash."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from service.cli.main import main
from service.media.video_reader import VideoFrame, VideoReader
from tests.graphs import tiny_catalogue
from tests.service.media.videos import make_frames, make_song, make_video
from tests.shared import SHARED, needs_shared, weights_catalogue
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

LONG = 150
ZONES = {
    "zones": [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}],
    "rules": {"angles": [{"name": "left_knee"}], "occupancy": True, "counts": True},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalogue of the tiny models and a few videos."""
    folder = tmp_path_factory.mktemp("videos")
    tiny_catalogue(folder)
    make_video(folder / "short.mp4", 20, sound="aac")
    make_video(folder / "long.mp4", LONG)
    (folder / "zones.json").write_text(json.dumps(ZONES), "utf-8")
    return folder


def start(
    folder: Path, *arguments: object, model: str = "tiny", most_bytes: int = resource.RLIM_INFINITY
) -> subprocess.Popen[str]:
    """Start the command as a process. most_bytes: limit of a file's size."""
    variables = {**os.environ, "POSEWIRE_CATALOGUE": str(folder / "tiny.toml")}
    command = [sys.executable, "-m", "service", "video", *map(str, arguments), "--model", model, "--min-score", "0"]
    process = subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.PIPE, encoding="utf-8")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    return process


def posewire_video(folder: Path, *arguments: object, model: str = "tiny") -> tuple[int, str]:
    """Return the exit code and the output."""
    process = start(folder, *arguments, model=model)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def interrupt(process: subprocess.Popen[str], journal: Path, how: signal.Signals) -> str:
    """End the process once its journal has some frames. Returns its output."""
    wait_for(lambda: process.poll() is not None or (journal.exists() and journal.stat().st_size > 10_000))
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    return said


def frames(path: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["frames"]
    return listed


def people(frame: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = frame["people"]
    return listed


def keypoints(listed: list[dict[str, Any]]) -> NDArray[np.float64]:
    return np.array([[person["keypoints"] for person in people(frame)] for frame in listed])


def test_a_video_gives_poses_with_ids_and_a_video_of_the_same_frames_and_sound(folder: Path, tmp_path: Path) -> None:
    out, poses, happened = tmp_path / "out.mp4", tmp_path / "poses.json", tmp_path / "events.ndjson"
    options = ("--out", out, "--poses", poses, "--trails", "1", "--zones", "zones.json", "--events", happened)
    code, said = posewire_video(folder, "short.mp4", *options, model="pair")
    assert code == 0, said
    assert "20 frames, " in said

    document = json.loads(poses.read_text("utf-8"))
    about = {key: value for key, value in document.items() if key not in ("frames", "keypoints")}
    assert about == {
        "video": "short.mp4", "width": 160, "height": 120, "frame_rate": 25.0, "model": "pair", "skeleton": "coco-17"
    }  # fmt: skip
    assert [frame["time"] for frame in document["frames"]] == pytest.approx([n / 25 for n in range(20)], abs=1e-6)
    assert {len(frame["people"]) for frame in document["frames"]} == {2}
    assert all(isinstance(person["id"], int) for frame in document["frames"] for person in frame["people"])

    last = document["frames"][-1]
    assert last["occupancy"] == {"all": 2}
    assert last["counts"]["all"] == {"entered": 2, "left": 0}
    assert all("angles" in person for person in last["people"])
    told = [json.loads(line) for line in happened.read_text("utf-8").splitlines()]
    assert [(event["kind"], event["name"]) for event in told] == [("enter", "all")] * 2
    assert {event["id"] for event in told} == {person["id"] for person in last["people"]}
    assert all(event["time"] == document["frames"][event["frame"]]["time"] for event in told)

    with VideoReader(folder / "short.mp4") as before, VideoReader(out) as after:
        pairs = list(zip(before, after, strict=True))
    assert [b.seconds for b, _ in pairs] == pytest.approx([a.seconds for _, a in pairs])
    assert all(np.abs(b.pixels.astype(int) - a.pixels).max() > 60 for b, a in pairs)  # a person is drawn
    with av.open(folder / "short.mp4") as source, av.open(out) as made:
        assert [bytes(p) for p in made.demux(audio=0)] == [bytes(p) for p in source.demux(audio=0)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.ndjson", "out.mp4", "poses.json"]


def test_poses_are_smoothed_if_asked_to(folder: Path, tmp_path: Path) -> None:
    found = {}
    for option in ("--smooth", "--smooth-poses"):
        poses = tmp_path / f"{option}.json"
        code, said = posewire_video(folder, "short.mp4", "--poses", poses, option, "--min-cutoff", "0.1", "--beta", "0")
        assert code == 0, said
        assert [frame["frame"] for frame in frames(poses)] == list(range(20))
        found[option] = keypoints(frames(poses))[..., :2]
    jitter = {option: np.abs(np.diff(points, n=2, axis=0)).mean() for option, points in found.items()}
    assert jitter["--smooth-poses"] < 0.7 * jitter["--smooth"]


def test_offline_identities_change_ids_only(folder: Path, tmp_path: Path) -> None:
    found = []
    for n, option in enumerate(("--offline-identities", "--no-offline-identities")):
        poses = tmp_path / f"{n}.json"
        code, said = posewire_video(folder, "short.mp4", "--poses", poses, option)
        assert code == 0, said
        found.append(frames(poses))
    assert [frame["time"] for frame in found[0]] == [frame["time"] for frame in found[1]]
    np.testing.assert_array_equal(keypoints(found[0]), keypoints(found[1]))
    unknown = [sum(person["id"] < 0 for frame in one for person in people(frame)) for one in found]
    assert unknown[0] <= unknown[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "1.json"]


def test_after_kill_9_the_same_command_continues_to_the_same_results(folder: Path, tmp_path: Path) -> None:
    whole, out, poses = tmp_path / "whole.json", tmp_path / "out.mp4", tmp_path / "poses.json"
    assert posewire_video(folder, "long.mp4", "--poses", whole)[0] == 0
    command = ("long.mp4", "--out", out, "--poses", poses)
    journal = tmp_path / "out.mp4.journal"
    interrupt(start(folder, *command), journal, signal.SIGKILL)
    assert journal.exists()
    assert not out.exists()
    assert not poses.exists()

    code, said = posewire_video(folder, *command)
    assert code == 0, said
    resumed = int(said.partition("went on after ")[2].split()[0])
    assert 10 < resumed < LONG
    assert len(frames(poses)) == LONG
    np.testing.assert_allclose(keypoints(frames(poses)), keypoints(frames(whole)), atol=0.02)
    with VideoReader(out) as video:
        assert len(list(video)) == LONG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "poses.json", "whole.json"]


def test_after_ctrl_c_the_command_can_continue_and_other_options_start_anew(folder: Path, tmp_path: Path) -> None:
    poses = tmp_path / "poses.csv"
    process = start(folder, "long.mp4", "--poses", poses)
    said = interrupt(process, tmp_path / "poses.csv.journal", signal.SIGINT)
    assert process.returncode == 130
    assert said.strip().endswith("Stopped; the same command goes on from here.")
    assert [path.name for path in tmp_path.iterdir()] == ["poses.csv.journal"]

    code, said = posewire_video(folder, "long.mp4", "--poses", poses, "--max-people", "3")
    assert code == 0, said
    assert "an earlier run had other options or another video, so this one began anew" in said
    assert "went on" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["poses.csv"]


def test_a_truncated_video_gives_its_frames_and_one_line_of_error(folder: Path, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", 100, options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    code, said = posewire_video(folder, tmp_path / "cut.mp4", "--poses", tmp_path / "poses.json")
    assert code == 1
    assert [line for line in said.splitlines() if "is not whole: it ends after" in line] == [said.splitlines()[-1]]
    assert 20 < len(frames(tmp_path / "poses.json")) < 90


def test_a_variable_frame_rate_is_kept(folder: Path, tmp_path: Path) -> None:
    times = [0, 20, 70, 71, 200, 1000]
    source = make_video(tmp_path / "a.mkv", times=times, tick=Fraction(1, 1000))
    assert posewire_video(folder, source, "--out", tmp_path / "b.mkv")[0] == 0
    with VideoReader(tmp_path / "b.mkv") as video:
        assert [picture.seconds for picture in video] == pytest.approx([t / 1000 for t in times])


@pytest.mark.parametrize("name", ["out.mp4", "poses.csv"])
def test_a_full_disk_is_one_clear_line_and_leaves_no_partial_file(folder: Path, tmp_path: Path, name: str) -> None:
    option = "--out" if name == "out.mp4" else "--poses"
    process = start(folder, "long.mp4", option, tmp_path / name, most_bytes=40_000)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith(f"Error: cannot write {tmp_path / name}")
    assert said.splitlines()[-1].endswith("File too large")
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.journal"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nowhere.mp4", "--poses", "a.json"), 2, "does not exist"),
        (("short.mp4",), 2, "there is nothing to write; name a video with --out"),
        (
            ("short.mp4", "--out", "a.gif"),
            2,
            "cannot write a.gif: the name must end in .mp4, .m4v, .mov, .mkv or .webm",
        ),
        (("short.mp4", "--poses", "a.txt"), 2, "cannot write a.txt: the name must end in .json, .csv or .ndjson"),
        (("short.mp4", "--out", "short.mp4"), 2, "short.mp4 is the video itself; write to another file"),
        (("short.mp4", "--out", "nowhere/a.mp4"), 1, "cannot write nowhere/a.mp4.journal: No such file or directory"),
        (("short.mp4", "--poses", "a.json", "--model", "nobody"), 1, "no model is called 'nobody'"),
        (("short.mp4", "--out", "a.mp4", "--min-cutoff", "0"), 2, "--min-cutoff is 0; it must be in 0.01..100"),
        (("short.mp4", "--out", "a.mp4", "--beta", "nan"), 2, "--beta is nan; it must be in 0..1000"),
        (("short.mp4", "--out", "a.mp4", "--detect-every", "-1"), 2, "it must be auto or a number of milliseconds"),
        (("short.mp4", "--poses", "a.json", "--no-smooth", "--smooth-poses"), 2, "contradict each other"),
        (
            ("short.mp4", "--events", "a.ndjson"),
            2,
            "--events needs zones, lines or rules; name their file",
        ),
        (("short.mp4", "--out", "a.mp4", "--zones", "zones.json"), 2, "--zones is for --events, and for --poses as .j"),
        (("short.mp4", "--events", "a.json", "--zones", "zones.json"), 2, "the name must end in .ndjson"),
        (("short.mp4", "--poses", "a.json", "--zones", "notes.txt"), 2, "notes.txt: "),
        (("notes.txt", "--poses", "a.json"), 1, "notes.txt cannot be read as a video: Invalid data"),
        (("pipe.mp4", "--poses", "a.json"), 1, "pipe.mp4 is not a file; save the video to a file first"),
        (("song.m4a", "--poses", "a.json"), 1, "song.m4a has no video in it, only audio"),
    ],
)
def test_user_errors_are_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, says: str
) -> None:
    make_song(folder / "song.m4a")
    (folder / "notes.txt").write_text("hello\n" * 50, "utf-8")
    if not (folder / "pipe.mp4").exists():
        os.mkfifo(folder / "pipe.mp4")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(folder / "tiny.toml"))
    done = CliRunner().invoke(main, ["video", "--model", "tiny", *arguments])
    assert done.exit_code == code
    assert [line for line in done.stderr.splitlines() if says in line] == [done.stderr.splitlines()[-1]]
    assert not list(folder.glob("*.journal")) + list(folder.glob("*.part"))


def test_unusual_sound_and_names_are_no_error(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"a:b\xe9.mp4")
    make_video(tmp_path / "a.mp4", 5, sound="aac").rename(source)
    source.write_bytes(source.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zsds"))
    code, said = posewire_video(folder, source, "--out", tmp_path / "o:ut.mp4", "--poses", tmp_path / "p:oses.json")
    assert code == 0, said
    assert "5 frames, " in said
    assert said.strip().endswith("; sound tracks of an unsupported codec were left out: 1")
    assert len(frames(tmp_path / "p:oses.json")) == 5
    assert json.loads((tmp_path / "p:oses.json").read_text("utf-8"))["video"] == "a:b\\xe9.mp4"
    with VideoReader(tmp_path / "o:ut.mp4") as video:
        assert len(list(video)) == 5


def test_a_video_of_one_pixel_is_processed(folder: Path, tmp_path: Path) -> None:
    source = make_frames(tmp_path / "a.mov", "png", "rgb24", (1, 1))
    out, poses = tmp_path / "out.mp4", tmp_path / "poses.json"
    code, said = posewire_video(folder, source, "--out", out, "--poses", poses, "--trails", "1", model="pair")
    assert code == 0, said
    assert [frame["time"] for frame in frames(poses)] == pytest.approx([0, 0.04, 0.08])


@needs_shared
def test_people_of_a_real_clip_keep_their_ids(tmp_path: Path) -> None:
    weights_catalogue(tmp_path).rename(tmp_path / "tiny.toml")
    clip = SHARED / "data/video/street_5frames.mp4"
    code, said = posewire_video(tmp_path, clip, "--poses", tmp_path / "poses.json", model="tinypose")
    assert code == 0, said
    known = [
        {person["id"] for person in people(frame) if person["id"] >= 0} for frame in frames(tmp_path / "poses.json")
    ]
    assert len(known) == 5
    assert len(set.intersection(*known[2:])) >= 2  # two frames a fifth of a second apart confirm uncertain people


def test_faces_are_blurred_and_presence_is_drawn_on_request(folder: Path, tmp_path: Path) -> None:
    drawn: list[list[VideoFrame]] = []
    for options in ((), ("--blur", "faces"), ("--heat-map", "--boxes", "--ids", "--labels")):
        out = tmp_path / f"{len(drawn)}.mkv"
        code, said = posewire_video(folder, "short.mp4", "--out", out, *options, model="pair")
        assert code == 0, said
        with VideoReader(out) as video:
            drawn.append(list(video))
    for other in drawn[1:]:
        pairs = list(zip(drawn[0], other, strict=True))
        assert [a.pts for a, _ in pairs] == [b.pts for _, b in pairs]
        assert all(np.abs(a.pixels.astype(int) - b.pixels).max() > 30 for a, b in pairs[1:])


def test_blur_without_a_video_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    code, said = posewire_video(folder, "short.mp4", "--poses", tmp_path / "poses.json", "--blur", "faces")
    assert code == 2
    assert "--blur is for the video that is drawn; name it with --out" in said
