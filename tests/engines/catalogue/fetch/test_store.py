"""The cache: accepted and refused files, killed processes, and concurrent processes."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.catalogue.fetch import store as fetching
from engines.catalogue.fetch.sources import FetchError, File, FileSource, HttpsSource
from tests.engines.catalogue.fetch.publisher import CONTENT, Publisher

DIGEST = hashlib.sha256(CONTENT).hexdigest()

FETCH = """
import sys
from pathlib import Path
from engines.catalogue.fetch.sources import File, HttpsSource
from engines.catalogue.fetch.store import fetch

def progress(done, total, label):
    if label.startswith("waiting"):
        sys.stdout.write("waiting\\n")
        sys.stdout.flush()

url, cache = sys.argv[1:]
fetch(Path(cache), HttpsSource(url), [File("model.onnx")], progress=progress)
"""


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def eventually(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.005)


def leftovers(cache: Path) -> list[str]:
    """The names of files in the cache that are neither a model, nor its record, nor a lock."""
    paths = [path.relative_to(cache) for path in cache.rglob("*") if path.is_file()]
    return [str(path) for path in paths if path.name != ".lock" and path.parts[1] != "files"]


def test_a_file_is_downloaded_once_and_then_used_without_the_network(tmp_path: Path, publisher: Publisher) -> None:
    source, files = HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]
    assert not fetching.is_cached(tmp_path, source, files)
    seen: list[tuple[int, int | None, str]] = []
    path = fetching.fetch(tmp_path, source, files, progress=lambda *call: seen.append(call))
    assert path.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT), "model.onnx")
    assert seen[-1] == (len(CONTENT), len(CONTENT), "model.onnx")
    assert seen == sorted(seen)
    publisher.status = 500
    assert fetching.is_cached(tmp_path, source, files)
    assert fetching.fetch(tmp_path, source, files) == path
    assert len(publisher.asked) == 1
    assert leftovers(tmp_path) == []


def test_files_of_a_folder_are_downloaded_one_by_one_and_published_together(
    tmp_path: Path, publisher: Publisher
) -> None:
    source, files = HttpsSource(publisher.url("FP32/")), [File("pose.xml"), File("weights/pose.bin", DIGEST)]
    publisher.contents = {"/FP32/pose.xml": b"<net/>", "/FP32/weights/pose.bin": b"another file"}
    with pytest.raises(FetchError, match=r"weights/pose\.bin of http.*has the sha256"):
        fetching.fetch(tmp_path, source, files, also=[File("other.xml")])
    assert not fetching.is_cached(tmp_path, source, files[:1])
    publisher.contents["/FP32/weights/pose.bin"] = CONTENT
    path = fetching.fetch(tmp_path, source, files, also=[File("other.xml")])
    assert path.read_bytes() == b"<net/>"
    assert (path.parent / "weights/pose.bin").read_bytes() == CONTENT
    assert len(publisher.asked) == 4
    assert leftovers(tmp_path) == []


def test_members_of_a_zip_are_found_by_the_end_of_their_path(tmp_path: Path, publisher: Publisher) -> None:
    publisher.content = zipped(
        {"a/b/end2end.onnx": CONTENT, "a/b/detail.json": b"{}", "a/x-end2end.onnx": b"not this one"}
    )
    source = HttpsSource(publisher.url("rtmpose.zip"))
    path = fetching.fetch(tmp_path, source, [File("end2end.onnx", DIGEST)], also=[File("detail.json"), File("none")])
    assert path.read_bytes() == CONTENT
    assert fetching.fetch(tmp_path, source, [File("detail.json")]).read_bytes() == b"{}"
    assert len(publisher.asked) == 1
    assert sorted(item.name for item in path.parent.glob("*.onnx")) == ["end2end.onnx"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"a/m.onnx": b"1", "b/m.onnx": b"2"}), "holds 2 files that end in m.onnx"),
        (zipped({"other": b"1", "m.onnx/": b""}), "holds no file m.onnx"),
        (b"<html>sign in first</html>", "is not a sound zip; a source that"),
        (zipped({"m.onnx": CONTENT}).replace(b"ABCD", b"ABBA"), "is not a sound zip: the checksum of m.onnx is wrong"),
    ],
)
def test_bad_archives_are_refused(tmp_path: Path, publisher: Publisher, content: bytes, message: str) -> None:
    publisher.content = content
    with pytest.raises(FetchError, match=message):
        fetching.fetch(tmp_path, HttpsSource(publisher.url("a.zip")), [File("m.onnx", DIGEST)])
    assert leftovers(tmp_path) == []


def test_all_files_of_a_model_are_published_or_none(tmp_path: Path, publisher: Publisher) -> None:
    publisher.content = zipped({"m.xml": b"<net/>", "m.bin": CONTENT})
    source, xml = HttpsSource(publisher.url("a.zip")), File("m.xml", hashlib.sha256(b"<net/>").hexdigest())
    with pytest.raises(FetchError, match=r"m\.bin .* has the sha256"):
        fetching.fetch(tmp_path, source, [xml, File("m.bin", "0" * 64)])
    assert not fetching.is_cached(tmp_path, source, [xml])
    path = fetching.fetch(tmp_path, source, [xml, File("m.bin", DIGEST)])
    assert path.with_suffix(".bin").read_bytes() == CONTENT


def test_a_killed_process_leaves_nothing_half_done(tmp_path: Path, publisher: Publisher) -> None:
    publisher.stall_after = 600_000
    source, files = HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]
    folder = tmp_path / source.key
    with subprocess.Popen([sys.executable, "-c", FETCH, publisher.url(), str(tmp_path)]) as process:
        eventually(lambda: (folder / "download.part").exists() and (folder / "download.part").stat().st_size > 500_000)
        process.kill()
    assert not fetching.is_cached(tmp_path, source, files)
    (folder / "work-abandoned").mkdir()  # as left by a process that was killed while unpacking
    (folder / "work-abandoned" / "0").write_bytes(CONTENT)
    publisher.stall_after = None
    assert fetching.fetch(tmp_path, source, files).read_bytes() == CONTENT
    assert publisher.asked_start(1) > 500_000
    assert leftovers(tmp_path) == []


def test_two_processes_at_once_download_once(tmp_path: Path, publisher: Publisher) -> None:
    publisher.stall_after = 1000
    command = [sys.executable, "-c", FETCH, publisher.url(), str(tmp_path)]
    with subprocess.Popen(command) as first:
        eventually(lambda: len(publisher.asked) == 1)
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as second:
            assert second.stdout
            assert second.stdout.readline() == "waiting\n"
            publisher.go_on.set()
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(publisher.asked) == 1
    assert fetching.fetch(tmp_path, HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]).read_bytes() == CONTENT


def test_a_corrupted_file_is_fetched_again(tmp_path: Path, publisher: Publisher) -> None:
    source, files = HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]
    path = fetching.fetch(tmp_path, source, files)
    path.write_bytes(CONTENT[:-1] + b"x")
    assert not fetching.is_cached(tmp_path, source, files)
    assert fetching.fetch(tmp_path, source, files).read_bytes() == CONTENT
    assert len(publisher.asked) == 2


def test_an_intact_file_from_elsewhere_is_accepted(tmp_path: Path, publisher: Publisher) -> None:
    source, files = HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]
    path = fetching.locate(tmp_path, source, files[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert not fetching.is_cached(tmp_path, source, [File("model.onnx")])  # it cannot be verified without a digest
    assert fetching.fetch(tmp_path, source, files) == path
    os.utime(path, (1, 1))  # like copying the cache
    assert fetching.is_cached(tmp_path, source, files)
    assert publisher.asked == []


def test_a_normal_start_hashes_nothing(tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    source, files = HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]
    fetching.fetch(tmp_path, source, files)
    monkeypatch.setattr(hashlib, "file_digest", None)
    fetching.fetch(tmp_path, source, files)


def test_wrong_bytes_are_refused_and_not_kept(tmp_path: Path, publisher: Publisher) -> None:
    publisher.content = CONTENT[::-1]
    source, files = HttpsSource(publisher.url()), [File("model.onnx", DIGEST)]
    with pytest.raises(FetchError, match=r"has the sha256 .* where the catalogue has .* not to be trusted"):
        fetching.fetch(tmp_path, source, files)
    assert list(tmp_path.rglob("model.onnx*")) == []
    publisher.content = CONTENT
    assert fetching.fetch(tmp_path, source, files).read_bytes() == CONTENT
    assert "Range" not in publisher.asked[1]


def test_a_file_without_a_pinned_digest_is_verified_against_its_first_one(tmp_path: Path, publisher: Publisher) -> None:
    source, files = HttpsSource(publisher.url()), [File("model.onnx")]
    path = fetching.fetch(tmp_path, source, files)
    path.unlink()
    publisher.content, publisher.version = CONTENT[::-1], ("ETag", '"2"')
    with pytest.raises(
        FetchError, match=r"not the file that was first fetched from there on \d{4}-\d\d-\d\d"
    ) as caught:
        fetching.fetch(tmp_path, source, files)
    assert not path.exists()
    lock = path.with_name("model.onnx.lock.json")
    assert str(lock) in caught.value.hint
    lock.unlink()
    assert fetching.fetch(tmp_path, source, files).read_bytes() == CONTENT[::-1]


def test_a_cache_that_cannot_be_written_to_is_named(tmp_path: Path, publisher: Publisher) -> None:
    (tmp_path / "cache").write_text("a file", "utf-8")
    with pytest.raises(FetchError, match=r"the model cache .*/cache cannot be used: .*; point POSEWIRE_MODELS at"):
        fetching.fetch(tmp_path / "cache", HttpsSource(publisher.url()), [File("model.onnx")])


def test_a_users_own_files_are_used_in_place(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "model.onnx").write_bytes(CONTENT)
    cache, file = tmp_path / "cache", File("model.onnx", DIGEST)
    for source in (FileSource(own), FileSource(own / "model.onnx")):
        assert fetching.is_cached(cache, source, [file])
        assert fetching.fetch(cache, source, [file]) == own / "model.onnx"
    assert not cache.exists()
    assert list(own.iterdir()) == [own / "model.onnx"]
    with pytest.raises(FetchError, match="does not have the sha256"):
        fetching.fetch(cache, FileSource(own), [File("model.onnx", "0" * 64)])
    with pytest.raises(FetchError, match=r"there is no file .*other\.onnx"):
        fetching.fetch(cache, FileSource(own), [File("other.onnx")])


def test_httpx_is_imported_only_for_downloads() -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys, engines.catalogue.models; sys.exit('httpx' in sys.modules)"], check=True
    )
