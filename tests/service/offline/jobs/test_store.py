"""The rows and files of video jobs: limits, the order of work, ages, and what a crash leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.offline.jobs.job import SOURCE, UPLOAD, JobLimits, JobProblem
from service.offline.jobs.store import JobStore
from service.quota import QuotaExceededError

ABOUT = {"model": "tiny", "skeleton": "native", "min_score": 0.3, "max_people": 50}
HOUR = 3600.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    opened = opened_at(tmp_path, clock)
    yield opened
    opened.close()


def opened_at(folder: Path, clock: Clock) -> JobStore:
    return JobStore(folder, JobLimits(jobs=8, bytes=1000, share=0.5, seconds=HOUR), clock=clock)


def upload(store: JobStore, client: str = "a", size: int = 10) -> str:
    job, handle = store.create(client, ABOUT, size)
    os.write(handle, bytes(size))
    assert store.queue(job, "A clip.MP4", size) is not None
    os.close(handle)
    return job


def test_a_job_goes_from_its_upload_to_its_end(store: JobStore, clock: Clock) -> None:
    job, handle = store.create("a", ABOUT, 10)
    assert store.get(job) is None
    os.write(handle, bytes(10))
    queued = store.queue(job, "A clip.MP4", 10)
    os.close(handle)
    assert queued is not None
    assert (queued.state, queued.name, queued.suffix) == ("queued", "A clip.MP4", ".mp4")
    assert (store.folder(job) / f"{SOURCE}.mp4").read_bytes() == bytes(10)

    running = store.claim()
    assert running is not None
    assert (running.id, running.state, running.started) == (job, "running", clock.now)
    assert store.claim() is None
    (store.folder(job) / "poses.ndjson").write_bytes(bytes(7))
    store.end(job, "done", JobProblem("not-a-video", "cut"))
    done = store.get(job)
    assert done is not None
    assert (done.state, done.problem, done.bytes) == ("done", JobProblem("not-a-video", "cut"), 7)
    assert [path.name for path in store.folder(job).iterdir()] == ["poses.ndjson"]  # the video is not kept


@pytest.mark.parametrize("name", ["../../etc/passwd", "a.mp4/../x", "clip", "a.sh;rm", ".mp4", "x." + "a" * 9])
def test_no_name_leaves_the_folder(store: JobStore, name: str) -> None:
    job, handle = store.create("a", ABOUT, 0)
    store.queue(job, name, 0)
    os.close(handle)
    [path] = store.folder(job).iterdir()
    assert path.name in (SOURCE, f"{SOURCE}.mp4")


def test_jobs_are_limited_for_all_and_for_each_client(store: JobStore) -> None:
    for _ in range(4):
        upload(store, "a")
    with pytest.raises(QuotaExceededError, match="one client may have 4 video jobs, this would be 5") as refused:
        store.create("a", ABOUT, 0)
    assert refused.value.reason == "share"
    for client in "bcde":
        upload(store, client)
    with pytest.raises(QuotaExceededError, match="8 of 8 video jobs are taken") as refused:
        store.create("f", ABOUT, 0)
    assert refused.value.reason == "full"


def test_bytes_are_limited_also_while_they_grow(store: JobStore) -> None:
    first = upload(store, "a", 300)
    with pytest.raises(QuotaExceededError, match="500 bytes of video jobs, this would be 600"):
        store.create("a", ABOUT, 300)
    store.grow(first, 500)
    with pytest.raises(QuotaExceededError, match="this would be 501"):
        store.grow(first, 501)
    store.grow(first, 100)
    assert len(list(store.folder(first).parent.iterdir())) == 1  # nothing of what was refused
    with pytest.raises(KeyError):
        store.grow("gone", 1)


def test_clients_take_turns(store: JobStore, clock: Clock) -> None:
    a = [upload(store, "a") for _ in range(3)]
    b = upload(store, "b")
    order = []
    while (job := store.claim()) is not None:
        clock.now += 1
        order.append(job.id)
    assert order == [a[0], b, a[1], a[2]]


def test_old_jobs_are_removed_and_running_ones_are_not(store: JobStore, clock: Clock) -> None:
    old, running = upload(store), upload(store)
    assert store.claim() is not None
    store.end(old, "done", None)
    assert store.claim() is not None
    clock.now += HOUR - 1
    store.sweep(running)
    assert store.get(old) is not None
    clock.now += 2
    store.sweep(running)
    assert store.get(old) is None
    assert not store.folder(old).exists()
    assert store.folder(running).exists()
    store.delete(running)
    store.sweep(running)
    assert store.folder(running).exists()  # until its process has ended
    store.sweep()
    assert not store.folder(running).exists()
    assert store.totals() == ({}, 0)


def test_uploads_of_ended_processes_are_removed_and_others_are_not(store: JobStore) -> None:
    job, handle = store.create("a", ABOUT, 10)
    store.sweep()
    assert (store.folder(job) / UPLOAD).exists()
    os.close(handle)  # as the kernel does
    store.sweep()
    assert not store.folder(job).exists()
    assert store.totals() == ({}, 0)  # nor is there a row


def test_after_a_crash_jobs_wait_again_until_the_third(store: JobStore, tmp_path: Path, clock: Clock) -> None:
    job = upload(store)
    for _ in range(2):
        assert store.claim() is not None
        restarted = opened_at(tmp_path, clock)
        restarted.recover()
        restarted.close()
    assert store.claim() is not None
    store.release(job)  # a clean end does not count
    assert store.claim() is not None
    store.recover()
    failed = store.get(job)
    assert failed is not None
    assert failed.problem == JobProblem("internal", "the server ended 3 times while it worked on this video")


def test_the_name_of_the_folder_stays_and_begins_the_ids(store: JobStore, tmp_path: Path, clock: Clock) -> None:
    again = opened_at(tmp_path, clock)
    assert again.replica == store.replica == upload(again).split("-")[0]
    assert store.get(upload(again)) is not None  # both see the jobs
    again.close()
    other = opened_at(tmp_path / "other", clock)
    assert other.replica != store.replica
    other.close()
