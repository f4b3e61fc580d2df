"""Failed files are tried again on request, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from engines.catalogue import load
from service.config import Settings
from service.offline.bulk.batch import Done, do_batch
from service.offline.bulk.manifest import BulkOptions
from service.offline.bulk.worker import BulkJob, ShardWorker, Task
from service.offline.bulk.worker_pool import BulkWorkerPool, Outcome
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.service.offline.bulk.runs import failed, results


class OneHere(BulkWorkerPool):
    """A pool with one worker in this process. done: names of its shards."""

    size = 1

    def __init__(self, job: BulkJob) -> None:
        self.done: list[str] = []
        self._worker = ShardWorker(job)
        self._outcomes: dict[int, Outcome] = {}

    def give(self, worker: int, task: Task) -> None:
        self.done.append(task.shard.name)
        self._outcomes[worker] = self._worker.do(task)

    def wait(self, seconds: float) -> Mapping[int, Outcome]:  # noqa: ARG002 - returns at once
        outcomes, self._outcomes = self._outcomes, {}
        return outcomes

    def close(self) -> None:
        """Do nothing: there is no process."""


def test_retried_files_give_the_results_of_an_undisturbed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(tiny_catalogue(tmp_path)))
    source = tmp_path / "source"
    source.mkdir()
    for n in range(4):
        (source / f"{n}.jpg").write_bytes(encoded(photo(64, 48, seed=n)))
    options = BulkOptions(min_score=0.0, shard=2, settings=BulkOptions.settings_of(Settings()))
    pools: list[OneHere] = []

    def open_pool(job: BulkJob) -> OneHere:
        pools.append(OneHere(job))
        return pools[-1]

    def run(name: str, *, retry_failed: bool = False) -> Done:
        return do_batch(
            source,
            tmp_path / name,
            load(),
            "tiny",
            options,
            open_pool=open_pool,
            say=lambda _: None,
            terminal=False,
            retry_failed=retry_failed,
        )

    run("undisturbed")
    ill, whole = source / "3.jpg", (source / "3.jpg").read_bytes()
    times = ill.stat().st_atime_ns, ill.stat().st_mtime_ns

    def put(content: bytes) -> None:
        ill.write_bytes(content)
        os.utime(ill, ns=times)

    put(bytes(len(whole)))  # like a disk that temporarily reads zeros
    assert [failure.path for failure in run("disturbed").failures] == ["3.jpg"]
    put(whole)
    assert len(run("disturbed").failures) == 1
    assert len(pools) == 2  # no pool was opened, as nothing was missing
    done = run("disturbed", retry_failed=True)
    assert (done.failures, done.earlier, pools[-1].done) == ((), 1, ["images-00001"])
    assert failed(tmp_path / "disturbed") == {}
    assert results(tmp_path / "disturbed") == results(tmp_path / "undisturbed")
