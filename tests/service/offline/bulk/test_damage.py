"""Damaged files of an earlier run are done again or reported."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from engines.catalogue import load
from service.config import Settings
from service.offline.bulk.batch import Done, do_batch
from service.offline.bulk.errors import BulkError
from service.offline.bulk.manifest import BulkOptions, agree, claimed
from service.offline.bulk.shards import Failure, Mark, Summary
from service.offline.bulk.worker import BulkJob
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.service.offline.bulk.runs import results
from tests.service.offline.bulk.test_retry import OneHere

WRONG = [
    b"",
    b"\xff\xfe\0",
    b"null",
    b"[]",
    b"{}",
    b"[" * 9000,
    b'{"images": "1"}',
    b'{"source"',
    b'"text"',
    b"9" * 9000,
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    for n in range(4):
        (folder / f"{n}.jpg").write_bytes(encoded(photo(64, 48, seed=n)))
    (folder / "._0.jpg").write_bytes(b"of macOS")
    (folder / "text.jpg").write_bytes(b"no picture")
    return folder


def run(source: Path, folder: Path) -> tuple[Done, list[str]]:
    pools: list[OneHere] = []

    def open_pool(job: BulkJob) -> OneHere:
        pools.append(OneHere(job))
        return pools[-1]

    options = BulkOptions(min_score=0.0, shard=2, settings=BulkOptions.settings_of(Settings()))
    done = do_batch(source, folder, load(), "tiny", options, open_pool=open_pool, say=lambda _: None, terminal=False)
    return done, [name for pool in pools for name in pool.done]


def test_damaged_results_are_done_again_with_the_same_results(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEWIRE_CATALOGUE", str(tiny_catalogue(tmp_path)))
    folder = tmp_path / "out"
    done, _ = run(source, folder)
    assert (done.images, [failure.path for failure in done.failures], done.left_out.files) == (5, ["text.jpg"], 1)
    whole = results(folder)
    assert run(source, folder)[1] == []
    (folder / "parts/images-00000.done").write_bytes(b"\xff\0")
    part = folder / "parts/images-00001.jsonl"
    part.write_bytes(part.read_bytes()[:-9])
    (folder / "parts/images-00002.at").write_bytes(b"{")
    assert run(source, folder)[1] == ["images-00000", "images-00001"]
    assert results(folder) == whole


@pytest.mark.parametrize("content", WRONG)
def test_a_damaged_summary_or_mark_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert Summary.read(tmp_path / "a") is None
    assert Mark.read(tmp_path / "a") is None


def test_a_summary_is_read_as_it_was_written(tmp_path: Path) -> None:
    summary = Summary(1, 2, 3, (Failure("a", "b", "c"),), "0" * 64)
    summary.write(tmp_path / "a")
    assert Summary.read(tmp_path / "a") == summary
    (tmp_path / "a").write_text((tmp_path / "a").read_text("utf-8").replace('"frames": 2, ', ""), "utf-8")
    assert Summary.read(tmp_path / "a") is None


@pytest.mark.parametrize("content", [c for c in WRONG if b"}" not in c])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(BulkError, match=r"manifest\.json is damaged; name a new folder"), claimed(tmp_path, {}):
        pass
    (tmp_path / "networks.json").write_bytes(content)
    with pytest.raises(BulkError, match=r"networks\.json is damaged; name a new folder"):
        agree(tmp_path, {})


def test_a_manifest_that_is_too_large_or_not_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(BulkError, match="is larger than"), claimed(tmp_path, {}):
        pass
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(BulkError, match=r"manifest\.json: is not a file"), claimed(tmp_path, {}):
        pass


def test_a_full_disk_ends_the_batch_with_one_line(source: Path, tmp_path: Path) -> None:
    catalogue = tiny_catalogue(tmp_path)
    few = tmp_path / "few"
    few.mkdir()
    for n in range(4):
        os.link(source / f"{n}.jpg", few / f"{n}.jpg")
    command = [sys.executable, "-m", "service", "batch", few, tmp_path / "out", "--model", "tiny", "--min-score", "0"]
    done = subprocess.run(
        [*map(str, command), "--workers", "1"],
        env={**os.environ, "POSEWIRE_CATALOGUE": str(catalogue)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith(f"Error: cannot write {tmp_path}/out")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out/images.jsonl").exists()
    assert json.loads((tmp_path / "out/manifest.json").read_text("utf-8"))
