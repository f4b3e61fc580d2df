"""Video jobs of a real server: from the upload to the results, and whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from service.api.security import digest
from service.formats.coco import read_coco
from service.formats.posetrack import read_posetrack
from service.formats.table import read_table
from service.media.video_reader import VideoReader
from tests.browser import browse, needs_chromium
from tests.servers import ServerProcess
from tests.service.media.videos import make_frames, make_video
from tests.waiting import PATIENCE_S
from tests.waiting import wait_for_process as wait_for

Job = dict[str, Any]
FRAMES = 20


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES, sound="aac")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder."""
    return tmp_path_factory.mktemp("data") / "of the server"


@pytest.fixture(scope="module")
def server(catalogue: Path, data: Path) -> Iterator[ServerProcess]:
    environment = {"data": data, "max_video_mb": 2, "max_video_minutes": 0.1}
    with ServerProcess("--model", "pair,tiny", catalogue=catalogue, environment=environment) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as opened:
        yield opened


def ended(client: httpx.Client, job: Job) -> Job:
    """The job when it has ended, and the events until then."""
    with client.stream("GET", job["links"]["events"]) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line and line != ":"]
    assert set(lines[::2]) == {"event: job"}
    jobs: list[Job] = [json.loads(line.removeprefix("data: ")) for line in lines[1::2]]
    assert [job["frames_done"] for job in jobs] == sorted(job["frames_done"] for job in jobs)
    return jobs[-1]


def post(client: httpx.Client, video: Path, **parameters: str | float) -> Job:
    answer = client.post("/videos", params={"name": video.name, **parameters}, content=video.read_bytes())
    assert answer.status_code == 202, answer.text
    job: Job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/videos/{job['id']}"
    return job


def left(data: Path) -> list[str]:
    return [path.name for path in (data / "videos").iterdir()]


def test_a_video_becomes_poses_in_every_format_and_a_drawn_video(
    client: httpx.Client, clip: Path, data: Path, catalogue: Path, tmp_path: Path
) -> None:
    job = post(client, clip, model="pair", min_score=0)
    assert job["state"] == "queued"
    with client.stream("GET", job["links"]["poses"], params={"format": "ndjson"}) as answer:  # while it runs
        lines = list(answer.iter_lines())
    done = ended(client, job)
    expected = {"state": "done", "frames_done": FRAMES, "frames_total": FRAMES, "percent": 100.0, "error": None}
    assert {key: done[key] for key in expected} == expected
    assert done in client.get("/videos").json()["videos"]

    def results(kind: str) -> httpx.Response:
        answer = client.get(job["links"]["poses"], params={"format": kind})
        assert answer.status_code == 200
        return answer

    document = results("json").json()
    assert [json.loads(line) for line in lines] == document["frames"]
    own = tmp_path / "own.json"  # of the command, which gives the same
    command = [sys.executable, "-m", "service", "video", str(clip), "--model", "pair", "--min-score", "0"]
    variables = {**os.environ, "POSEWIRE_CATALOGUE": str(catalogue)}
    subprocess.run([*command, "--poses", str(own)], check=True, env=variables, capture_output=True)
    ours = json.loads(own.read_text("utf-8"))
    assert {**ours, "frames": []} == {**document, "frames": []}
    assert ids(ours) == ids(document)
    np.testing.assert_allclose(keypoints(ours), keypoints(document), atol=0.02)
    for kind, read in (("coco", read_coco), ("posetrack", read_posetrack), ("csv", read_table)):
        (tmp_path / kind).write_bytes(results(kind).content)
        sequence = read(tmp_path / kind)
        assert [len(frame.poses) for frame in sequence.frames] == [2] * FRAMES
    images = json.loads((tmp_path / "posetrack").read_bytes())
    assert {image["nframes"] for image in images["images"]} == {FRAMES}
    assert [one["id"] for one in images["annotations"]] == list(range(2 * FRAMES))

    with ThreadPoolExecutor(6) as pool:  # each conversion is a process, and a client may have two at once
        statuses = list(pool.map(lambda _: client.get(f"{job['links']['poses']}?format=coco").status_code, range(6)))
    assert set(statuses) == {200, 429}

    film = client.get(job["links"]["video"])
    assert (film.status_code, film.headers["content-type"]) == (200, "video/mp4")
    head = client.head(job["links"]["video"])
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(film.content)))
    part = client.get(job["links"]["video"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, film.content[100:200])
    (tmp_path / "drawn.mp4").write_bytes(film.content)
    with VideoReader(clip) as before, VideoReader(tmp_path / "drawn.mp4") as after:
        pairs = list(zip(before, after, strict=True))
    assert all(np.abs(b.pixels.astype(int) - a.pixels).max() > 60 for b, a in pairs)  # a person is drawn

    assert 'posewire_video_jobs{state="done"}' in client.get("/metrics").text
    assert sorted(path.name for path in (data / "videos" / job["id"]).iterdir()) == [
        "drawn.mp4", "poses.ndjson", "video.json"
    ]  # fmt: skip
    assert client.delete(job["links"]["self"]).status_code == 204
    assert {client.get(link).status_code for link in job["links"].values()} == {404}
    assert client.delete(job["links"]["self"]).status_code == 404
    assert left(data) == []


def ids(document: Job) -> list[list[int]]:
    return [[person["id"] for person in frame["people"]] for frame in document["frames"]]


def keypoints(document: Job) -> list[Any]:
    return [[person["keypoints"] for person in frame["people"]] for frame in document["frames"]]


def test_a_form_gives_the_name_and_another_skeleton_is_derived(client: httpx.Client, clip: Path) -> None:
    answer = client.post(
        "/videos",
        params={"model": "tiny", "skeleton": "mpii-16", "min_score": 0},
        data={"note": "hello"},
        files={"file": ("../my clip.mp4", clip.read_bytes(), "video/mp4")},
    )
    assert answer.status_code == 202, answer.text
    job = ended(client, answer.json())
    assert (job["name"], job["skeleton"], job["state"]) == ("../my clip.mp4", "mpii-16", "done")
    document = client.get(job["links"]["poses"]).json()
    assert (document["video"], document["skeleton"], len(document["keypoints"])) == ("../my clip.mp4", "mpii-16", 16)
    assert {len(person["keypoints"]) for frame in document["frames"] for person in frame["people"]} == {16}
    client.delete(job["links"]["self"])


@needs_chromium
def test_a_browser_plays_the_drawn_video_and_jumps_in_it(
    server: ServerProcess, client: httpx.Client, clip: Path
) -> None:
    async def play(url: str) -> Any:
        async with browse(url) as page:
            script = """(async () => {
                const video = document.querySelector("video");
                if (video.readyState < 2) await new Promise(done => { video.onloadeddata = video.onerror = done; });
                video.muted = true;
                video.currentTime = 0.6;
                await new Promise(done => { video.onseeked = video.onerror = done; });
                await video.play();
                await new Promise(done => { video.onended = video.onerror = done; });
                return [video.videoWidth, video.videoHeight, video.error && video.error.message, video.ended];
            })()"""
            while not await page.evaluate("document.querySelector('video') !== null"):  # noqa: ASYNC110 - it is elsewhere
                await asyncio.sleep(0.05)
            return await page.evaluate(script)

    job = ended(client, post(client, clip, model="tiny", min_score=0))
    assert asyncio.run(play(server.url + job["links"]["video"])) == [160, 120, None, True]
    client.delete(job["links"]["self"])


@pytest.mark.parametrize(
    ("parameters", "headers", "body", "status", "says"),
    [
        ({}, {"Content-Type": "application/json"}, b"{}", 415, "Content-Type application/json is not accepted"),
        ({}, {"Content-Encoding": "gzip"}, b"abc", 415, "Content-Encoding gzip is not accepted"),
        ({}, {}, b"", 415, "the body has no video"),
        ({}, {"Content-Type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 415, "multipart part `file`"),
        ({}, {"Content-Type": "multipart/form-data; boundary=x"}, b"nonsense", 400, "cannot be parsed"),
        ({}, {}, bytes(2_000_001), 413, "larger than the 2 MB allowed here"),
        ({"model": "nobody"}, {}, b"abc", 404, "'nobody' is not served here"),
        ({"skeleton": "none"}, {}, b"abc", 404, "skeleton: 'none' is not one of"),
        ({"min_score": "2"}, {}, b"abc", 422, "min_score: "),
        ({"colour": "red"}, {}, b"abc", 422, "colour: there is no such name here"),
    ],
)
def test_bad_uploads_are_refused_and_leave_nothing(
    client: httpx.Client,
    data: Path,
    parameters: dict[str, str],
    headers: dict[str, str],
    body: bytes,
    status: int,
    says: str,
) -> None:
    for content in (body, (body[at : at + 50_000] for at in range(0, max(1, len(body)), 50_000))):  # also in chunks
        answer = client.post("/videos", params=parameters, headers=headers, content=content)
        assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert left(data) == []


def repeated(path: Path, size: tuple[int, int], count: int) -> Path:
    """A video of the same picture again and again, which is encoded once."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        black = np.zeros((size[1] * 3 // 2, size[0]), np.uint8)
        [packet] = stream.encode(av.VideoFrame.from_ndarray(black, "yuvj420p"))
        data = bytes(packet)
        for number in range(count):
            packet = av.Packet(data[: len(data) if number == 0 else 1000])
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            out.mux(packet)
    return path


def test_videos_that_cannot_be_done_fail_with_a_clear_text(client: httpx.Client, data: Path, tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.mp4", 100, options={"movflags": "faststart"}).read_bytes()
    notes, cut = tmp_path / "notes.txt", tmp_path / "cut.mp4"
    notes.write_text("hello\n" * 50, "utf-8")
    cut.write_bytes(whole[: len(whole) // 2])
    long = make_video(tmp_path / "long.mp4", 7 * 25)
    endless = make_video(tmp_path / "endless.mkv", 12, times=[0, *range(10**6, 10**6 + 11)])
    pixel = make_frames(tmp_path / "pixel.mov", "png", "rgb24", (1, 1))
    huge = repeated(tmp_path / "huge.mkv", (4992, 4992), 40)
    jobs = [ended(client, post(client, video, model="tiny")) for video in (notes, cut, long, endless, pixel, huge)]
    assert [job["state"] for job in jobs] == ["failed", "done", "failed", "failed", "done", "failed"]
    errors = [job["error"] for job in jobs]
    assert errors[0]["detail"].startswith("notes.txt cannot be read as a video: Invalid data")
    assert errors[0]["type"] == "/problems/not-a-video"
    assert errors[1]["detail"].startswith("cut.mp4 is not whole: it ends after")
    assert errors[2]["detail"] == errors[3]["detail"] == "it is longer than the 0.1 minutes allowed here"
    assert errors[2]["type"] == "/problems/too-large"
    assert errors[4] is None
    assert errors[5]["detail"].startswith("it has more work than 0.1 minutes of 1920 x 1080 pixels at 60 frames/s")
    assert 20 < len(client.get(jobs[1]["links"]["poses"]).json()["frames"]) < 90
    for link in ("poses", "video"):
        answer = client.get(jobs[0]["links"][link])
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/not-ready")
    failed = data / "videos" / jobs[0]["id"]
    assert list(failed.iterdir()) == []
    for job in jobs:
        assert client.delete(job["links"]["self"]).status_code == 204
    assert left(data) == []


def test_an_upload_whose_client_leaves_is_removed(server: ServerProcess, client: httpx.Client, data: Path) -> None:
    with pytest.raises(RuntimeError, match="enough"), httpx.Client(base_url=server.url) as leaving:
        leaving.post("/videos", content=leave_after(lambda: left(data) != []))
    wait_for(lambda: left(data) == [])
    assert client.get("/videos").json() == {"videos": []}


def leave_after(condition: Any) -> Iterator[bytes]:
    yield bytes(100_000)
    wait_for(condition)
    raise RuntimeError("enough")


def test_jobs_belong_to_a_key_and_are_bounded(catalogue: Path, clip: Path, tmp_path: Path) -> None:
    keys = [{"X-API-Key": name} for name in ("one", "two", "three")]
    environment = {"data": tmp_path, "max_videos": 4, "api_keys": ",".join(map(digest, ("one", "two", "three")))}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as server:
        one, two, three = (httpx.Client(base_url=server.url, timeout=PATIENCE_S, headers=key) for key in keys)
        with one, two, three:
            jobs = [post(one, clip), post(one, clip)]
            refused = one.post("/videos", content=clip.read_bytes())
            assert (refused.status_code, refused.json()["type"]) == (429, "/problems/rate-limited")
            assert "one client may have 2 video jobs" in refused.json()["detail"]
            assert "Retry-After" in refused.headers

            assert two.get("/videos").json() == {"videos": []}
            assert {two.get(link).status_code for link in jobs[0]["links"].values()} == {404}
            assert two.delete(jobs[0]["links"]["self"]).status_code == 404
            assert [job["id"] for job in one.get("/videos").json()["videos"]] == [job["id"] for job in reversed(jobs)]

            statuses: list[
                int
            ] = []  # two uploads at once beyond the limit: the second is refused while the first goes on

            def rest() -> Iterator[bytes]:
                yield clip.read_bytes()[:1000]
                wait_for(lambda: len(left(tmp_path)) == 4)
                statuses.append(three.post("/videos", content=clip.read_bytes()).status_code)
                yield clip.read_bytes()[1000:]

            post(two, clip)
            assert two.post("/videos", content=rest()).status_code == 202
            assert statuses == [503]
            assert one.delete(jobs[0]["links"]["self"]).status_code == 204
            assert three.post("/videos", content=clip.read_bytes()).status_code == 202
