"""Video jobs of a server that is killed, shut down or restarted, and of a process that is killed while it works."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from engines.poses import Frame
from service.offline.journal import Journal
from tests.servers import ServerProcess
from tests.service.media.videos import make_video
from tests.waiting import PATIENCE_S
from tests.waiting import wait_for_process as wait_for

pytestmark = pytest.mark.slow

FRAMES = 120


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


def slow(catalogue: Path, data: Path, *arguments: str, **settings: object) -> ServerProcess:
    """A server whose network takes a while for each batch, so that a job can be caught in the middle."""
    environment = {"data": data, "service_ms": 100, "service_batch": 1, **settings}
    return ServerProcess(
        "--model", "tiny", *arguments, catalogue=catalogue, environment=environment, module="tests.slow_server"
    )


def post(server: ServerProcess, clip: Path) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/videos?name=clip.mp4&min_score=0", content=clip.read_bytes(), timeout=PATIENCE_S)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def get(server: ServerProcess, job: dict[str, Any], link: str = "self", **parameters: str) -> httpx.Response:
    return httpx.get(server.url + job["links"][link], params=parameters, timeout=PATIENCE_S)


def wait_for_frames(server: ServerProcess, data: Path, job: dict[str, Any], size: int = 4_000) -> int:
    """Wait until some frames are in the job's journal. Returns the process that works on it."""
    journal = data / "videos" / job["id"] / "drawn.mp4.journal"
    wait_for(lambda: journal.exists() and journal.stat().st_size > size)
    [child] = children(server.process.pid)
    return child


def children(server: int) -> list[int]:
    """The processes that work on videos for a server, or for one of its workers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if b"service.offline.jobs.child" in command and str(server).encode() in command:
            found.append(int(path.parent.name))
    return found


def journaled(data: Path, job: dict[str, Any]) -> int:
    """The frames that an interrupted run has left in the journal."""
    copy = data / "copy.journal"
    content = (data / "videos" / job["id"] / "drawn.mp4.journal").read_bytes()
    copy.write_bytes(content)
    about = json.loads(content.split(b"\n", 1)[0].partition(b"journal 1 ")[2])
    with Journal(copy, about) as journal:
        return journal.found


def ended(server: ServerProcess, job: dict[str, Any]) -> dict[str, Any]:
    wait_for(lambda: get(server, job).json()["state"] in ("done", "failed"))
    found: dict[str, Any] = get(server, job).json()
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_goes_on_from_its_journal_when_the_server_starts_again(
    catalogue: Path, clip: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with slow(catalogue, tmp_path, drain_seconds=0) as server:
        job = post(server, clip)
        waiting = post(server, clip)
        child = wait_for_frames(server, tmp_path, job)
        with httpx.stream("GET", server.url + job["links"]["events"], timeout=PATIENCE_S) as events:
            server.process.send_signal(how)
            if how == signal.SIGTERM:
                events.read()  # it ends, so that the server can
        server.process.wait(60)
        wait_for(lambda: not Path(f"/proc/{child}").exists())
    before = journaled(tmp_path, job)
    assert 10 < before < FRAMES
    with slow(catalogue, tmp_path, service_ms=0) as server:
        assert [one["id"] for one in httpx.get(f"{server.url}/videos").json()["videos"]] == [waiting["id"], job["id"]]
        done = ended(server, job)
        assert (done["state"], done["frames_done"], done["error"]) == ("done", FRAMES, None)
        assert ended(server, waiting)["state"] == "done"
        first, second = (get(server, one, "poses", format="json").json()["frames"] for one in (job, waiting))
        assert [frame["frame"] for frame in first] == list(range(FRAMES))
        points = [[[p["keypoints"] for p in frame["people"]] for frame in frames] for frames in (first, second)]
        np.testing.assert_allclose(points[0], points[1], atol=0.02)
        assert ids(first) == ids(second)


def ids(frames: list[dict[str, Any]]) -> list[list[int]]:
    return [[person["id"] for person in frame["people"]] for frame in frames]


def test_a_running_job_can_be_deleted_and_the_next_one_runs(catalogue: Path, clip: Path, tmp_path: Path) -> None:
    with slow(catalogue, tmp_path) as server:
        job, following = post(server, clip), post(server, clip)
        child = wait_for_frames(server, tmp_path, job)
        with httpx.stream(
            "GET", server.url + job["links"]["poses"], params={"format": "ndjson"}, timeout=PATIENCE_S
        ) as poses:
            lines = poses.iter_lines()
            assert json.loads(next(lines))["frame"] == 0
            assert httpx.delete(server.url + job["links"]["self"]).status_code == 204
            assert get(server, job).status_code == 404
            *_, last = lines
        assert json.loads(last)["error"]["detail"] == "the job was deleted"
        wait_for(lambda: not Path(f"/proc/{child}").exists())
        wait_for(lambda: [path.name for path in (tmp_path / "videos").iterdir()] == [following["id"]])
        wait_for_frames(server, tmp_path, following)
        assert httpx.delete(server.url + following["links"]["self"]).status_code == 204
        wait_for(lambda: list((tmp_path / "videos").iterdir()) == [])
        assert get(server, job).status_code == 404


def test_a_decoder_that_crashes_fails_its_job_alone(catalogue: Path, clip: Path, tmp_path: Path) -> None:
    ends = {
        signal.SIGSEGV: ("not-a-video", "the decoder crashed on this video; export it again"),
        signal.SIGXCPU: ("not-a-video", "decoding a frame takes more than a minute of processor time"),
        signal.SIGKILL: ("too-large", "the process that worked on this video was killed"),
    }
    with slow(catalogue, tmp_path) as server:
        jobs = [post(server, clip) for _ in ends]
        for job, (number, (kind, says)) in zip(jobs, ends.items(), strict=True):
            os.kill(wait_for_frames(server, tmp_path, job, 500), number)
            failed = ended(server, job)
            assert (failed["state"], failed["error"]["type"]) == ("failed", f"/problems/{kind}")
            assert failed["error"]["detail"].startswith(says)
            assert list((tmp_path / "videos" / job["id"]).iterdir()) == []
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_every_worker_answers_for_all_jobs_and_another_one_continues_them(
    catalogue: Path, clip: Path, tmp_path: Path
) -> None:
    with slow(catalogue, tmp_path, "--workers", "2") as server:
        job = post(server, clip)
        journal = tmp_path / "videos" / job["id"] / "drawn.mp4.journal"
        wait_for(lambda: journal.exists() and journal.stat().st_size > 4_000)
        assert {get(server, job).status_code for _ in range(8)} == {200}
        workers = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text("utf-8").split()
        [worker] = [int(pid) for pid in workers if children(int(pid))]
        os.kill(worker, signal.SIGKILL)
        assert ended(server, job)["frames_done"] == FRAMES
        assert {get(server, job, "video").status_code for _ in range(8)} == {200}


def test_a_full_disk_is_told_and_leaves_nothing(catalogue: Path, tmp_path: Path) -> None:
    environment = {"data": tmp_path}
    prefix = ("prlimit", "--fsize=370000")
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment, prefix=prefix) as server:
        answer = httpx.post(f"{server.url}/videos", content=bytes(2_000_000), timeout=PATIENCE_S)
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/disk-full")
        assert "Retry-After" in answer.headers
        assert list((tmp_path / "videos").iterdir()) == []
        job = post(server, make_video(tmp_path / "noise.mp4", 16, size=(320, 240), draw=noise, codec="mpeg4"))
        assert ended(server, job)["error"]["type"] == "/problems/disk-full"
        assert list((tmp_path / "videos" / job["id"]).iterdir()) == []
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def noise(number: int, width: int, height: int) -> Frame:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def test_a_folder_that_cannot_be_used_is_a_clear_error_at_the_start(catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "videos.sqlite").write_text("this is no database" * 100, "utf-8")
    with pytest.raises(RuntimeError, match=f"setting data: the database in {tmp_path} cannot be used"):
        ServerProcess("--model", "tiny", catalogue=catalogue, environment={"data": tmp_path}).__enter__()
