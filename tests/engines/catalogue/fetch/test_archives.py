"""Tarballs and zips in zips: what is kept, and hostile ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from engines.catalogue.fetch import archives
from engines.catalogue.fetch.archives import take, zip_members
from engines.catalogue.fetch.sources import FetchError, File
from tests.engines.catalogue.fetch.test_store import zipped


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def tarball(path: Path, *members: tuple[tarfile.TarInfo, bytes], tar_format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=tar_format) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def kept(path: Path, *members: str) -> dict[str, bytes]:
    """What `zip_members` keeps of a tarball."""
    with zipfile.ZipFile(zip_members(path, members, path.with_suffix(".zip"), origin="a@1")) as found:
        return {name: found.read(name) for name in found.namelist()}


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_are_found_by_the_end_of_their_path(tmp_path: Path, tar_format: int) -> None:
    long = "package/" + "/".join(["a" * 30] * 4) + "/m.bin"
    path = tarball(
        tmp_path / "a.tgz",
        (member("package/x/m.json"), b"1"),
        (member("package/x-m.json"), b"2"),
        (member("package/empty"), b""),
        (member(long), b"3"),
        tar_format=tar_format,
    )
    assert kept(path, "m.json", "package/empty", "none") == {"package/x/m.json": b"1", "package/empty": b""}
    assert kept(path, "m.bin") == {long: b"3"}


def test_links_and_devices_are_passed_over_and_the_first_of_two_files_counts(tmp_path: Path) -> None:
    path = tarball(
        tmp_path / "a.tgz",
        (member("package/m", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (member("package/m", tarfile.LNKTYPE, "package/n"), b""),
        (member("package/m", tarfile.CHRTYPE), b""),
        (member("../../m"), b"outside"),
        (member("package/m"), b"first"),
        (member("package/m"), b"second"),
    )
    assert kept(path, "package/m") == {"package/m": b"first"}
    assert kept(path, "m") == {"../../m": b"outside", "package/m": b"first"}  # a name in a zip, not a path
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.tgz", "a.zip"]


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tarball(tmp_path / "a.tgz", (member("x" * (2 << 20)), b"1"))
    with pytest.raises(FetchError, match="a name that is too long"):
        kept(path, "m")


def test_more_than_any_package_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tarball(tmp_path / "a.tgz", *((member(f"package/{n}"), bytes(1 << 10)) for n in range(20)))
    for limit, most in (("MAX_MEMBER_BYTES", 10 << 10), ("MAX_TAR_MEMBERS", 10)):
        with monkeypatch.context() as patched:
            patched.setattr(archives, limit, most)
            with pytest.raises(FetchError, match="a@1 is larger than any model"):
                kept(path, "package/19")
    assert kept(path, "package/19") == {"package/19": bytes(1 << 10)}


@pytest.mark.parametrize("broken", ["cut", "changed", "not a tarball"])
def test_broken_tarballs_are_refused(tmp_path: Path, broken: str) -> None:
    path = tarball(tmp_path / "a.tgz", (member("package/m"), bytes(range(256)) * 4096))
    data = path.read_bytes()
    middle = len(data) // 2
    changed = data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 99]) + data[middle + 99 :]
    path.write_bytes({"cut": data[:middle], "changed": changed, "not a tarball": b"<html>"}[broken])
    with pytest.raises(FetchError, match="what a@1 gave is not a sound tarball; fetch again"):
        kept(path, "package/m")


def test_a_file_of_a_zip_in_a_zip(tmp_path: Path) -> None:
    outer = tmp_path / "a.whl"
    outer.write_bytes(zipped({"lib/models.nfd": zipped({"models/m.tflite": b"1"}), "lib/broken.nfd": b"PK"}))
    take(outer, File("m.tflite", archive="models.nfd"), tmp_path / "m", origin="a==1")
    assert (tmp_path / "m").read_bytes() == b"1"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.whl", "m"]
    with pytest.raises(FetchError, match=r"lib/models\.nfd of a==1 holds no file n\.tflite"):
        take(outer, File("n.tflite", archive="lib/models.nfd"), tmp_path / "n", origin="a==1")
    with pytest.raises(FetchError, match=r"what lib/broken\.nfd of a==1 gave is not a sound zip"):
        take(outer, File("m.tflite", archive="lib/broken.nfd"), tmp_path / "n", origin="a==1")
    with pytest.raises(FetchError, match=r"a==1 holds no file none\.nfd"):
        take(outer, File("m.tflite", archive="none.nfd"), tmp_path / "n", origin="a==1")


def test_a_bomb_in_a_zip_in_a_zip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m", bytes(1 << 20))
    outer = tmp_path / "a.whl"
    outer.write_bytes(zipped({"in.zip": bomb.getvalue()}))
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 1 << 16)
    with pytest.raises(FetchError, match=r"m in in\.zip of a==1 is larger"):
        take(outer, File("m", archive="in.zip"), tmp_path / "m", origin="a==1")
    assert not (tmp_path / "m").exists()
