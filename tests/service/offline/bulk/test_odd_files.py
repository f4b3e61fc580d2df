"""Unusual folders, lists and archives: one odd file never affects the others."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.offline.bulk.errors import BulkError, UnreadableError
from service.offline.bulk.listing import list_source
from tests.service.offline.bulk.archives import APART, fill, make_tar, make_zip, names, problems, read, read_all

AS_NOBODY = """
import os, sys
from pathlib import Path
from service.offline.bulk.errors import BulkError
from service.offline.bulk.listing import list_source
from service.offline.bulk.sources import open_source
os.setuid(65534)
try:
    listing = list_source(Path(sys.argv[1]), Path("/nowhere"))
    source = open_source(listing.kind, listing.root)
    for entry in listing.entries:
        print(entry.name, "|", entry.problem)
        if not entry.problem:
            try:
                source.read(entry, 1000)
            except Exception as error:
                print(entry.name, "|", error)
except BulkError as error:
    print(error)
"""


@contextlib.contextmanager
def open_to_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def as_nobody(source: Path) -> list[str]:
    command = [sys.executable, "-c", AS_NOBODY, str(source)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user, whom files are closed to")


@needs_root
def test_folders_and_files_that_cannot_be_read_are_listed() -> None:
    with open_to_all() as folder:
        fill(folder, "a.jpg", "closed.jpg", "sub/b.jpg", "sub/deep/c.jpg")
        (folder / "closed.jpg").chmod(0)
        (folder / "sub/deep").chmod(0)
        assert as_nobody(folder) == [
            "a.jpg | ",
            "closed.jpg | ",
            "closed.jpg | cannot be read: Permission denied",
            "sub/b.jpg | ",
            "sub/deep/ | is a folder that cannot be read: Permission denied",
        ]
        (folder / "sub").chmod(0)
        assert as_nobody(folder / "sub") == [f"{folder}/sub cannot be read: Permission denied"]


def test_names_of_any_bytes_are_read_and_shown_in_a_line(tmp_path: Path) -> None:
    for name in (
        b"\xff.jpg",
        b"a\nb.jpg",
        b"\\xff.jpg",
        b" .jpg ",
        b"-x.jpg",
        b"\xed\xa0\x80.jpg",
        b"x" * 251 + b".jpg",
    ):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    found = read_all(list_source(tmp_path, APART))
    assert found == {
        "-x.jpg": b"-x.jpg",
        "\\\\xff.jpg": b"\\xff.jpg",
        "\\xed\\xa0\\x80.jpg": b"\xed\xa0\x80.jpg",
        "\\xff.jpg": b"\xff.jpg",
        "a\\x0ab.jpg": b"a\nb.jpg",
        "x" * 251 + ".jpg": b"x" * 251 + b".jpg",
    }


def test_pipes_and_devices_are_reported_and_do_not_block(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    (tmp_path / "empty").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket.jpg"))
        assert problems(list_source(tmp_path, APART)) == {
            "pipe.jpg": "is not a file",
            "null.jpg": "is not a file",
            "socket.jpg": "is not a file",
            "loop.jpg": "cannot be read: Too many levels of symbolic links",
            "gone.jpg": "cannot be read: No such file or directory",
        }


@pytest.mark.parametrize("made", [Path.unlink, lambda path: path.write_bytes(b"more"), "pipe"])
def test_a_file_that_changed_or_vanished_since_the_listing_is_reported(
    tmp_path: Path, made: Callable[[Path], object] | str
) -> None:
    listing = list_source(fill(tmp_path, "a.jpg"), APART)
    path = tmp_path / "a.jpg"
    if isinstance(made, str):
        path.unlink()
        os.mkfifo(path)
    else:
        made(path)
    with pytest.raises(UnreadableError, match=r"No such file|has changed since it was listed|not a file any more"):
        read_all(listing)


def test_metadata_files_of_macos_are_left_out(tmp_path: Path) -> None:
    files = ("photos/a.jpg", "__MACOSX/photos/._a.jpg", "photos/._b.jpg", "photos/.DS_Store", "__MACOSX/x.mp4")
    fill(tmp_path / "folder", *files)
    archives = (
        make_zip(tmp_path / "a.zip", dict.fromkeys(files, b"")),
        make_tar(tmp_path / "a.tar", *((f, b"") for f in files)),
    )
    for source in (tmp_path / "folder", *archives):
        listing = list_source(source, APART)
        assert (names(listing), listing.left_out.files) == (["photos/a.jpg"], 4)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_may_have_byte_order_marks_and_any_line_ends_and_blanks(tmp_path: Path, encoding: str) -> None:
    fill(tmp_path, "a.jpg", "ö.jpg", "with blank.jpg", "blank.jpg ", "\u2028.jpg")
    text = "a.jpg\r\n  ö.jpg \t\r\nwith blank.jpg\nblank.jpg \n\n\u2028.jpg\n# no\n" + "x" * 5000 + "\nnul\0.jpg"
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    listing = list_source(tmp_path / "list.txt", APART)
    assert names(listing)[:5] == ["a.jpg", "ö.jpg", "with blank.jpg", "blank.jpg ", "\\xe2\\x80\\xa8.jpg"]
    found = problems(listing)
    assert found.pop("nul\\x00.jpg") == "cannot be the name of a file"
    assert found == {"x" * 5000: "cannot be read: File name too long"}


def test_a_list_may_name_files_whose_names_are_not_utf_8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")).write_bytes(b"data")
    (tmp_path / "list.txt").write_bytes(b"\xff.jpg\n")
    assert read_all(list_source(tmp_path / "list.txt", APART)) == {"\\xff.jpg": b"data"}


def test_a_pipe_as_a_list_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BulkError, match="is a pipe or a device; write the list of files to a file"):
        list_source(tmp_path / "pipe", APART)


def patched(path: Path, field: int, size: int, value: int, *, number: int = 0) -> Path:
    """Change a field of the `number`th record of a zip's directory."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    data[at + field : at + field + size] = value.to_bytes(size, "little")
    path.write_bytes(data)
    return path


METHOD, FLAGS, NEEDED, EXTRA, MODE, OFFSET = 10, 8, 6, 30, 40, 42
PAIR = {"a.jpg": b"a", "b.jpg": b"b"}


@pytest.mark.parametrize(
    ("field", "size", "value", "problem"),
    [
        (METHOD, 2, 9, "is compressed by method 9 (Deflate64), which is not read here; store or deflate it"),
        (METHOD, 2, 77, "is compressed by method 77, which is not read here; store or deflate it"),
        (FLAGS, 2, 1, "is encrypted"),
        (MODE, 2, 0o120777, "is a link in the archive; only plain files are read"),
        (NEEDED, 2, 999, ""),
    ],
)
def test_an_odd_member_of_a_zip_affects_no_others(
    tmp_path: Path, field: int, size: int, value: int, problem: str
) -> None:
    listing = list_source(patched(make_zip(tmp_path / "a.zip", PAIR), field, size, value), APART)
    assert [entry.problem for entry in listing.entries] == [problem, ""]
    assert read(listing, 1) == b"b"


def test_a_member_without_a_name_is_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"what")
        archive.writestr("a.jpg", b"a")
    listing = list_source(tmp_path / "a.zip", APART)
    assert (read_all(listing), listing.left_out.files) == ({"a.jpg": b"a"}, 1)


def renamed(path: Path, before: bytes, after: bytes) -> Path:
    path.write_bytes(path.read_bytes().replace(before, after))
    return path


@pytest.mark.parametrize(
    ("name", "utf8", "shown"),
    [
        ("kö.jpg".encode(), False, "kö.jpg"),
        ("kö.jpg".encode(), True, "kö.jpg"),
        ("kö.jpg".encode("cp437"), False, "kö.jpg"),
        (b"k\xff.jpg", True, "k\\xff.jpg"),
        (b"k\n.jpg", False, "k\\x0a.jpg"),
        (b"k\\.jpg", False, "k\\\\.jpg"),
    ],
)
def test_names_in_a_zip_of_any_encoding(tmp_path: Path, name: bytes, utf8: bool, shown: str) -> None:
    mark = b"k" * (len(name) - 4) + b".jpg"
    path = renamed(make_zip(tmp_path / "a.zip", {mark.decode(): b"k", "b.jpg": b"b"}), mark, name)
    patched(path, FLAGS, 2, 0x800 if utf8 else 0)
    assert read_all(list_source(path, APART)) == {shown: b"k", "b.jpg": b"b"}


def test_damaged_extra_fields_and_large_numbers_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, extra in (
            ("a.jpg", b"\x01\x00\xff\xffxx"),
            ("b.jpg", struct.pack("<2H2Q", 1, 16, 1, 1)),
            ("c.jpg", b"x"),
        ):
            info = zipfile.ZipInfo(name)
            info.extra = extra
            archive.writestr(info, name[:1])
    patched(path, 24, 4, 0xFFFFFFFF, number=1)
    patched(path, 20, 4, 0xFFFFFFFF, number=1)
    assert read_all(list_source(path, APART)) == {"a.jpg": b"a", "b.jpg": b"b", "c.jpg": b"c"}
    patched(path, 24, 4, 0xFFFFFFFF, number=0)
    assert problems(list_source(path, APART)) == {"a.jpg": "has a damaged record in the archive's directory"}
    patched(path, OFFSET, 4, 7, number=2)
    listing = list_source(path, APART)
    with pytest.raises(UnreadableError, match="is not where the archive's directory says"):
        read(listing, 2)


def test_a_member_larger_than_it_says_fails_its_checksum(tmp_path: Path) -> None:
    path = patched(make_zip(tmp_path / "a.zip", {"a.jpg": b"a" * 9}), 24, 4, 5)
    with pytest.raises(UnreadableError, match="cannot be unpacked: it is damaged"):
        read_all(list_source(path, APART))


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_data_is_reported_for_every_compression(tmp_path: Path, how: int) -> None:
    path = make_zip(tmp_path / "a.zip", {"a.jpg": os.urandom(3000)}, how)
    data = bytearray(path.read_bytes())
    assert len(read_all(list_source(path, APART), most=5000)["a.jpg"]) == 3000
    data[35:60] = bytes(25)
    path.write_bytes(data)
    with pytest.raises(UnreadableError, match="damaged"):
        read_all(list_source(path, APART), most=5000)


def test_the_error_of_an_incomplete_zip_says_what_to_do(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", PAIR)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(
        BulkError, match=r"is not a whole zip archive: its directory, which comes last, is missing; copy"
    ):
        list_source(path, APART)
    path.write_bytes(whole[:-18] + b"\x02" + whole[-17:])
    with pytest.raises(BulkError, match="is one part of a zip in several"):
        list_source(path, APART)


def test_zips_with_preceding_bytes_or_a_comment_are_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", PAIR)
    path.write_bytes(b"#!/bin/sh\n" * 99 + path.read_bytes())
    assert read_all(list_source(path, APART)) == PAIR
    with zipfile.ZipFile(make_zip(tmp_path / "b.zip", PAIR), "a") as archive:
        archive.comment = b"PK\x05\x06" * 9
    assert read_all(list_source(tmp_path / "b.zip", APART)) == PAIR


def test_a_truncated_directory_lists_its_whole_records(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", PAIR)
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02")
    path.write_bytes(data[:at] + b"xxxx" + data[at + 4 :])
    listing = list_source(path, APART)
    assert names(listing) == ["a.jpg", "a.zip"]
    assert problems(listing) == {"a.zip": "is not whole: its directory names 1 of 2 members"}


def test_members_with_the_same_name_are_all_read(tmp_path: Path) -> None:
    renamed(make_zip(tmp_path / "a.zip", {"a.jpg": b"1", "b.jpg": b"2"}), b"b.jpg", b"a.jpg")
    for path in (tmp_path / "a.zip", make_tar(tmp_path / "a.tar", ("a.jpg", b"1"), ("a.jpg", b"2"))):
        listing = list_source(path, APART)
        assert [read(listing, number) for number in range(2)] == [b"1", b"2"]


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"inner.jpg": b"no"}).read_bytes()
    path = make_tar(tmp_path / "photos", ("a.jpg", b"a"), ("inner.zip", inner))
    assert read_all(list_source(path, APART)) == {"a.jpg": b"a"}


def test_names_in_a_tar_of_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for name in ("\udcff.jpg", "a\nb.jpg", "ö" * 200 + ".jpg"):
            archive.addfile(tarfile.TarInfo(name))
    assert names(list_source(path, APART)) == ["\\xff.jpg", "a\\x0ab.jpg", "ö" * 200 + ".jpg"]


def tar_header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "odd",
    [
        tar_header("b.jpg", -512),
        tar_header("b.jpg", -(2**40)),
        tar_header("b", -512, tarfile.XHDTYPE),
        tar_header("b", 2**60, tarfile.XHDTYPE),
        tar_header("b", 2**60, tarfile.GNUTYPE_LONGNAME),
        tar_header("b", 512, tarfile.XHDTYPE) * 3000,
    ],
)
def test_an_odd_header_in_a_tar_ends_the_listing_and_is_reported(tmp_path: Path, odd: bytes) -> None:
    first = make_tar(tmp_path / "a.tar", ("a.jpg", b"a")).read_bytes()[:1024]
    (tmp_path / "a.tar").write_bytes(first + odd + first + bytes(1024))
    listing = list_source(tmp_path / "a.tar", APART)
    assert names(listing)[0] == "a.jpg"
    assert "is not whole" in problems(listing)["a.tar"]


def test_results_inside_the_source_are_not_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "out/b.jpg")
    (tmp_path / "loop").symlink_to("loop")
    assert names(list_source(tmp_path, tmp_path / "out")) == ["a.jpg"]
    assert names(list_source(tmp_path, tmp_path / "loop")) == ["a.jpg", "out/b.jpg"]
