"""Fetching members of npm packages with the real npm, from a registry on this machine."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import shutil
import socket
import tarfile
from pathlib import Path

import pytest

from engines.catalogue.fetch import clients, npm
from engines.catalogue.fetch import store as fetching
from engines.catalogue.fetch.sources import FetchError, File, NpmSource, UnreachableError
from tests.engines.catalogue.fetch.publisher import Publisher
from tests.engines.catalogue.fetch.test_store import eventually, leftovers, zipped

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")]

SOURCE = NpmSource("@posewire/test-models", "1.2.3")
WEIGHTS = random.Random(0).randbytes(1 << 20)  # noqa: S311
FILES = (
    File("models/pose.bin", hashlib.sha256(WEIGHTS).hexdigest()),
    File("package/models/pose.json"),
    File("inner/detector.onnx", hashlib.sha256(b"detector").hexdigest(), "more/models.nfd"),
)
TARBALL = "/test-models-1.2.3.tgz"


def packed(members: dict[str, bytes]) -> bytes:
    """A gzipped tar as npm makes them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def registry(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """A registry with one package, set with a token in the user's .npmrc."""
    about = {"name": SOURCE.package, "version": SOURCE.version, "scripts": {"prepack": "touch /tmp/never"}}
    tarball = packed(
        {
            "package.json": json.dumps(about).encode(),
            "models/pose.bin": WEIGHTS,
            "models/pose.json": b"{}",
            "models/other.bin": WEIGHTS[::-1],
            "more/models.nfd": zipped({"inner/detector.onnx": b"detector", "inner/code.py": b""}),
        }
    )
    digest = base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    about["dist"] = {"tarball": publisher.url(TARBALL[1:]), "integrity": f"sha512-{digest}"}
    packument = {"name": SOURCE.package, "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": about}}
    publisher.contents = {"/@posewire%2ftest-models": json.dumps(packument).encode(), TARBALL: tarball}
    for name in [name for name in os.environ if name.lower().startswith("npm_config_")]:
        monkeypatch.delenv(name)
    settings = tmp_path / "npmrc"
    settings.write_text(
        f"registry={publisher.url('')}\n//127.0.0.1:{publisher.server_port}/:_authToken=secret\n", "utf-8"
    )
    monkeypatch.setenv("npm_config_userconfig", str(settings))
    monkeypatch.setattr(npm, "_START_SECONDS", 60.0)  # beside other tests
    monkeypatch.setattr(clients, "COMPUTING_SECONDS", 1.0)
    return publisher


def test_only_the_needed_files_are_kept_and_shared(
    tmp_path: Path, registry: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    cache, seen = tmp_path / "cache", list[tuple[int, int | None, str]]()
    path = fetching.fetch(cache, SOURCE, FILES[:1], also=FILES[1:], progress=lambda *call: seen.append(call))
    assert path.read_bytes() == WEIGHTS
    assert seen[-1] == (len(registry.contents[TARBALL]), len(registry.contents[TARBALL]), "@posewire/test-models@1.2.3")
    kept = {str(item.relative_to(cache / SOURCE.key)) for item in cache.rglob("*") if item.is_file()}
    assert {name for name in kept if not name.endswith(".json") or name.endswith("pose.json")} == {
        ".lock",
        "files/models/pose.bin",
        "files/package/models/pose.json",
        "files/more/models.nfd!/inner/detector.onnx",
    }
    assert [item.name for item in (cache / SOURCE.key).iterdir() if item.is_dir()] == ["files"]
    assert fetching.fetch(cache, SOURCE, FILES[1:]).read_bytes() == b"{}"
    assert fetching.fetch(cache, SOURCE, FILES[2:]).read_bytes() == b"detector"
    assert registry.paths.count(TARBALL) == 1
    assert {headers.get("authorization") for headers in registry.asked} == {"Bearer secret"}
    assert capfd.readouterr() == ("", "")


def test_without_npm_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match=r"npm is not installed, and @posewire/test-models@1\.2\.3 comes through it"):
        fetching.fetch(tmp_path / "cache", SOURCE, FILES)


def test_a_registry_that_refuses_connections_is_named_as_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(UnreachableError, match=r"the npm registry could not be reached: .*ECONNREFUSED"):
        fetching.fetch(tmp_path / "cache", SOURCE, FILES)


def test_a_registry_that_does_not_answer_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(UnreachableError, match=r"the npm registry could not be reached: .*timeout"):
            fetching.fetch(tmp_path / "cache", SOURCE, FILES, connect_timeout=0.2)


def test_npm_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, child = tmp_path / "bin" / "npm", tmp_path / "child"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nsleep 60 & echo $! > {child}\nwait\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(npm, "_START_SECONDS", 2.0)
    monkeypatch.setattr(npm, "ANSWER_SECONDS", 0.2)
    with pytest.raises(UnreachableError, match=r"the npm registry could not be reached: no answer within 0\.4 s"):
        fetching.fetch(tmp_path / "cache", SOURCE, FILES, connect_timeout=0.2)
    status = Path("/proc") / child.read_text("utf-8").strip() / "status"
    eventually(lambda: not status.exists() or "State:\tZ" in status.read_text("utf-8"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
def test_npm_that_starts_slowly_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, real = tmp_path / "bin" / "npm", shutil.which("npm")
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nfor ((n = 0; n < 100000; n++)); do :; done\nexec {real} "$@"\n', "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("_START_SECONDS", "ANSWER_SECONDS", "STALL_SECONDS"):
        monkeypatch.setattr(npm, name, 0.1)
    path = fetching.fetch(tmp_path / "cache", SOURCE, FILES, connect_timeout=30)
    assert path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (NpmSource(SOURCE.package, "9.9.9"), "npm could not download @posewire/test-models@9.9.9: No match found"),
        (NpmSource("posewire-none", "1.0.0"), r"npm could not download posewire-none@1.0.0: Not Found"),
    ],
)
def test_a_missing_release_is_distinguished_from_an_unreachable_registry(
    tmp_path: Path, registry: Publisher, source: NpmSource, says: str
) -> None:
    registry.missing = {"/posewire-none"}
    with pytest.raises(FetchError, match=says) as caught:
        fetching.fetch(tmp_path / "cache", source, FILES)
    assert not isinstance(caught.value, UnreachableError)
    assert "npm config list" in caught.value.hint


def test_a_download_that_stalls_is_given_up_and_succeeds_later(
    tmp_path: Path, registry: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.stall_after = 1 << 18
    with monkeypatch.context() as patched:
        patched.setattr(npm, "STALL_SECONDS", 8.0)
        with pytest.raises(FetchError, match=r"the download of @posewire/test-models@1\.2\.3 broke off: nothing came"):
            fetching.fetch(tmp_path / "cache", SOURCE, FILES)
    assert registry.paths.count(TARBALL) == 1
    registry.go_on.set()
    registry.stall_after = None
    assert fetching.fetch(tmp_path / "cache", SOURCE, FILES).read_bytes() == WEIGHTS


def test_a_changed_tarball_is_refused(tmp_path: Path, registry: Publisher) -> None:
    registry.contents[TARBALL] = packed({"models/pose.bin": b"other weights"})
    with pytest.raises(FetchError, match=r"npm could not download .*integrity"):
        fetching.fetch(tmp_path / "cache", SOURCE, FILES)


def test_files_are_verified(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"models/pose\.bin of @posewire/test-models@1\.2\.3 has the sha256"):
        fetching.fetch(tmp_path / "cache", SOURCE, [File("models/pose.bin", "0" * 64)])
    assert leftovers(tmp_path / "cache") == []
