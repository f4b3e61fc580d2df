"""Fetching members of wheels with the real pip, from a wheel that is built here, without an index."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest

from engines.catalogue.fetch import pypi
from engines.catalogue.fetch import store as fetching
from engines.catalogue.fetch.sources import FetchError, File, PypiSource, UnreachableError
from tests.engines.catalogue.fetch.test_store import leftovers, zipped

SOURCE = PypiSource("posewire-test-models", "1.2", "3.11", "manylinux_2_28_x86_64")
MODEL = b"not really a network" * 100
FILES = (
    File("models/pose.tflite", hashlib.sha256(MODEL).hexdigest()),
    File("models/detector.tflite", hashlib.sha256(b"detector").hexdigest()),
)


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel for another Python and platform, set as the source in pip's settings."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    stem, info = "posewire_test_models-1.2", "posewire_test_models-1.2.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-cp311-cp311-manylinux_2_28_x86_64.whl", "w") as wheel:
        wheel.writestr("models/pose.tflite", MODEL)
        wheel.writestr("models/detector.tflite", b"detector")
        wheel.writestr("models/code.py", "raise SystemExit")
        wheel.writestr("models/packed.nfd", zipped({"in/movenet.tflite": b"movenet"}))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: posewire-test-models\nVersion: 1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_only_the_named_members_are_extracted_and_shared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, seen = tmp_path / "cache", list[tuple[int, int | None, str]]()
    path = fetching.fetch(cache, SOURCE, FILES[:1], also=FILES[1:], progress=lambda *call: seen.append(call))
    assert path.read_bytes() == MODEL
    assert seen[-1][0] == seen[-1][1]
    kept = sorted(item.name for item in cache.rglob("*") if item.is_file() and item.suffix != ".json")
    assert kept == [".lock", "detector.tflite", "pose.tflite"]
    monkeypatch.setattr(pypi, "download", None)
    assert fetching.fetch(cache, SOURCE, FILES[1:]).read_bytes() == b"detector"
    assert capfd.readouterr() == ("", "")


def test_a_file_of_a_zip_in_a_wheel(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    file = File("in/movenet.tflite", hashlib.sha256(b"movenet").hexdigest(), "models/packed.nfd")
    path = fetching.fetch(cache, SOURCE, [file, *FILES])
    assert path == cache / SOURCE.key / "files" / "models/packed.nfd!" / "in/movenet.tflite"
    assert path.read_bytes() == b"movenet"
    assert fetching.is_cached(cache, SOURCE, [file])
    assert leftovers(cache) == []


def test_pips_error_is_passed_on_without_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = PypiSource("posewire-test-models", "9.9", "3.11", "manylinux_2_28_x86_64")
    with pytest.raises(FetchError) as caught:
        fetching.fetch(tmp_path / "cache", missing, FILES)
    assert caught.value.reason.startswith("pip could not download posewire-test-models==9.9: No matching distribution")
    assert "pip config list" in caught.value.hint
    assert capfd.readouterr() == ("", "")
    assert [item.name for item in (tmp_path / "cache" / missing.key).iterdir()] == [".lock"]


def test_an_unreachable_index_is_distinguished_from_a_missing_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(
        UnreachableError, match=r"^the package index could not be reached: [A-Z][^<>']*Connection refused; check"
    ):
        fetching.fetch(tmp_path / "cache", SOURCE, FILES)


def test_a_missing_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(FetchError, match=r"does not have; `.* -m ensurepip` installs it"):
        fetching.fetch(tmp_path / "cache", SOURCE, FILES)
