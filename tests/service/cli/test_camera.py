"""`posewire camera` as a user runs it: a process before real cameras, alone and with a real server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from click.testing import CliRunner

from service.api.security import digest
from service.cli.main import main
from service.media.video_reader import VideoReader
from tests.camera_servers import HttpCamera
from tests.graphs import tiny_catalogue
from tests.servers import ServerProcess
from tests.service.media.videos import make_video
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

ZONES = {
    "zones": [{"name": "hall", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}],
    "lines": [{"name": "door", "start": [0.5, 0], "end": [0.5, 1]}],
    "rules": {
        "counts": True,
        "occupancy": True,
        "repetitions": [{"name": "c", "angle": "left_elbow", "low": 9, "high": 99}],
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalogue of tiny models, a video and zones."""
    folder = tmp_path_factory.mktemp("camera")
    tiny_catalogue(folder)
    make_video(folder / "clip.mp4", 30, size=(320, 240))
    (folder / "zones.json").write_text(json.dumps(ZONES), "utf-8")
    return folder


def check_rules(result: dict[str, Any]) -> None:
    assert result["occupancy"]["hall"] >= 2  # the tracker may take people of a made-up video for others
    assert result["counts"]["hall"]["entered"] >= 2
    assert result["counts"]["door"].keys() == {"to_left", "to_right"}
    assert all(person["repetitions"].keys() == {"c"} for person in result["people"])


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ServerProcess]:
    settings = {"api_keys": digest("right")}
    with ServerProcess("--model", "pair", catalogue=folder / "tiny.toml", environment=settings) as running:
        yield running


def environment(folder: Path, **others: str) -> dict[str, str]:
    return {**os.environ, "POSEWIRE_CATALOGUE": str(folder / "tiny.toml"), **others}


def posewire(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "camera", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(folder, **variables), capture_output=True, encoding="utf-8", check=False
    )


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "service", "camera", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    pipes["pipesize"] = 4096  # soon full
    with subprocess.Popen(command, cwd=folder, env=environment(folder), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def documents(output: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in output.splitlines()]
    return [document for document in found if document["type"] == kind]


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as video:
        return list(video.decode(video=0))


def test_results_of_a_file_are_printed_and_recorded(folder: Path, tmp_path: Path) -> None:
    done = posewire(folder, "clip.mp4", "--model", "pair", "--record", str(tmp_path / "out.mp4"))
    assert done.returncode == 0, done.stderr
    results = documents(done.stdout, "result")
    assert [result["frame"] for result in results] == list(range(len(results)))
    assert {(result["width"], result["height"]) for result in results} == {(320, 240)}
    assert len(results) + sum(result["dropped"] for result in results) <= 30
    assert {person["id"] for person in results[0]["people"]} == {1, 2}
    assert [state["state"] for state in documents(done.stdout, "camera")] == ["connecting", "live", "ended"]
    assert f"{len(results)} frames, " in done.stderr
    recorded = frames_of(tmp_path / "out.mp4")
    assert len(recorded) == len(results)
    plain = frames_of(folder / "clip.mp4")[0].to_ndarray(format="rgb24").astype(int)
    assert abs(recorded[0].to_ndarray(format="rgb24").astype(int) - plain).max() > 100  # it is drawn


def test_events_are_printed_and_the_video_may_be_plain(folder: Path, tmp_path: Path) -> None:
    options = ("--model", "pair", "--zones", "zones.json", "--record", str(tmp_path / "out.mkv"), "--plain")
    done = posewire(folder, "clip.mp4", *options)
    assert done.returncode == 0, done.stderr
    events = documents(done.stdout, "event")
    assert {(event["kind"], event["name"]) for event in events} >= {("enter", "hall")}
    assert documents(done.stdout, "result") == []
    again = posewire(folder, "clip.mp4", "--model", "pair", "--zones", "zones.json", "--print", "results", "--fps", "3")
    check_rules(documents(again.stdout, "result")[-1])
    recorded = frames_of(tmp_path / "out.mkv")[0].to_ndarray(format="rgb24").astype(int)
    plain = frames_of(folder / "clip.mp4")[0].to_ndarray(format="rgb24").astype(int)
    assert abs(recorded - plain).mean() < 10


def test_a_server_finds_the_people(folder: Path, server: ServerProcess, tmp_path: Path) -> None:
    options = ("--server", server.url, "--zones", "zones.json", "--print", "results")
    done = posewire(folder, "clip.mp4", *options, "--record", str(tmp_path / "out.mp4"), POSEWIRE_API_KEY="right")
    assert done.returncode == 0, done.stderr
    assert "the server finds people with pair" in done.stderr
    results = documents(done.stdout, "result")
    assert {person["id"] for person in results[0]["people"]} == {1, 2}
    assert {event["kind"] for result in results for event in result["events"]} >= {"enter"}
    assert len(frames_of(tmp_path / "out.mp4")) == len(results)
    check_rules(results[-1])


def test_a_server_refuses_a_wrong_key(folder: Path, server: ServerProcess) -> None:
    done = posewire(folder, "clip.mp4", "--server", server.url, "--api-key", "wrong")
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("mode", ["play", "hang", "garbage"])
def test_ctrl_c_ends_it_whatever_the_camera_does(folder: Path, mode: str) -> None:
    with HttpCamera(password="s3cret") as camera:  # noqa: S106 - of this test
        camera.mode = mode  # type: ignore[assignment]
        url = camera.url.replace("//", "//joe:s3cret@")
        with running(folder, url, "--model", "tiny") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["state"] == "connecting"
            if mode == "play":
                while json.loads(process.stdout.readline())["type"] != "result":
                    pass
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "people" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert "s3cret" not in output + errors


def test_it_ends_at_ctrl_c_even_if_nobody_reads_its_output(folder: Path) -> None:
    with HttpCamera(fps=25) as camera, running(folder, camera.url, "--model", "tiny") as process:
        assert process.stdout is not None
        process.stdout.readline()
        wait_for(lambda: _stuck(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT


def _stuck(pid: int) -> bool:
    """True if a thread waits in write()."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return any((thread / "syscall").read_text("ascii").startswith("1 0x1 ") for thread in threads)


def test_a_recording_can_be_played_after_kill_9(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with HttpCamera(fps=25) as camera, running(folder, camera.url, "--model", "tiny", "--record", str(path)) as process:
        assert process.stdout is not None
        results = 0
        while not (path.exists() and path.stat().st_size > 20_000 and results > 60):
            results += json.loads(process.stdout.readline())["type"] == "result"
        process.kill()
    with VideoReader(path) as video:  # the last piece may be cut off
        assert len(list(video)) > 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nowhere.mp4",), 2, "nowhere.mp4 is not a file; name a camera as 0"),
        (("ftp://joe:s3cret@cam/",), 2, "a source cannot begin with ftp://"),
        (("tiny.xml", "--model", "tiny"), 1, "tiny.xml: Invalid data found"),
        (("clip.mp4", "--record", "out.gif"), 2, "the name must end in .mp4"),
        (("clip.mp4", "--record", "clip.mp4"), 2, "clip.mp4 is the source itself"),
        (("clip.mp4", "--zones", "tiny.toml"), 2, "tiny.toml: "),
        (("clip.mp4", "--zones", "bad.json"), 2, "bad.json: zones.0.polygon: "),
        (("clip.mp4", "--model", "tiny", "--skeleton", "ghost"), 1, "no skeleton is called 'ghost'"),
        (("clip.mp4", "--server", "localhost"), 1, "is no URL of a server"),
        (("clip.mp4", "--show"), 2, "--show needs a display"),
    ],
)
def test_user_errors_are_one_clear_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, says: str
) -> None:
    (folder / "bad.json").write_text('{"zones": [{"name": "x", "polygon": []}]}', "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(folder / "tiny.toml"))
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    done = CliRunner().invoke(main, ["camera", *arguments])
    assert (done.exit_code, says in done.stderr) == (code, True), done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="a window needs Xvfb, see .ci/run")
def test_the_people_are_shown_in_a_window(folder: Path) -> None:
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=(write,), stderr=subprocess.DEVNULL) as display:
        os.close(write)
        try:
            with os.fdopen(read) as number:
                name = f":{number.readline().strip()}"
            done = posewire(folder, "clip.mp4", "--model", "pair", "--show", "--print", "nothing", DISPLAY=name)
        finally:
            display.terminate()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "frames, " in done.stderr
