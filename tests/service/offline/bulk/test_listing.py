"""Which files are listed, in which order, and which members of an archive are never read."""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.offline.bulk.errors import BulkError, UnreadableError
from service.offline.bulk.listing import SourceFile, list_source
from service.offline.bulk.sources import open_source
from tests.service.offline.bulk.archives import APART, fill, make_tar, make_zip, names, problems, read_all


def test_a_folder_is_listed_in_the_order_of_its_paths(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "b.jpg",
        "a.PNG",
        "sub/c.mp4",
        "sub/deep/d.tiff",
        "notes.txt",
        ".hidden.jpg",
        ".git/e.jpg",
        "out/f.jpg",
    )
    (tmp_path / "round").symlink_to(tmp_path)
    listing = list_source(tmp_path, tmp_path / "out")
    assert names(listing) == ["a.PNG", "b.jpg", "sub/c.mp4", "sub/deep/d.tiff"]
    assert [entry.number for entry in listing.entries] == [0, 1, 2, 3]
    assert (listing.left_out.files, listing.left_out.folders) == (2, 1)
    assert read_all(listing)["sub/c.mp4"] == b"sub/c.mp4"


def test_a_list_names_files_by_relative_or_absolute_paths(tmp_path: Path) -> None:
    far = fill(tmp_path / "far", "x.jpg") / "x.jpg"
    fill(tmp_path / "near", "a.jpg", "film.mov")
    source = tmp_path / "near/list.txt"
    source.write_text(f"# mine\na.jpg\n\n{far}\nfilm.mov\ngone.jpg\n.\n", "utf-8")
    listing = list_source(source, APART)
    assert names(listing) == ["a.jpg", str(far), "film.mov", "gone.jpg", "."]
    assert [entry.video for entry in listing.entries] == [False, False, True, False, False]
    assert problems(listing) == {"gone.jpg": "cannot be read: No such file or directory", ".": "is not a file"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_read_in_place(tmp_path: Path, kind: str) -> None:
    members = {"./b.jpg": b"second", "a/a.jpg": b"first" * 100, "notes.txt": b"", "b.jpeg": b""}
    path = tmp_path / f"all.{kind}"
    listing = list_source(make_zip(path, members) if kind == "zip" else make_tar(path, *members.items()), APART)
    assert (listing.kind, listing.left_out.files) == (kind, 1)
    assert list(read_all(listing).items()) == [("b.jpg", b"second"), ("a/a.jpg", b"first" * 100), ("b.jpeg", b"")]
    assert read_all(listing, most=3)["b.jpg"] == b"seco"  # one extra byte shows that it is too large
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_in_an_archive_is_copied_only_while_it_is_used(tmp_path: Path) -> None:
    film = bytes(range(256)) * 10_000
    listing = list_source(make_zip(tmp_path / "all.zip", {"film.mp4": film}, zipfile.ZIP_STORED), APART)
    source = open_source(listing.kind, listing.root)
    with source.file(listing.entries[0], tmp_path / "scratch") as path:
        assert path.read_bytes() == film
    source.close()
    assert [path.name for path in tmp_path.iterdir()] == ["all.zip"]


def test_zip_bombs_are_named_and_not_opened(tmp_path: Path) -> None:
    path = make_zip(
        tmp_path / "all.zip", {"../up.jpg": b"1", "/root.jpg": b"2", "bomb.mp4": bytes(10**7), "a\\..\\b.png": b""}
    )
    found = problems(list_source(path, APART))
    assert found.pop("bomb.mp4").startswith("would unpack to 10,000,000 bytes from ")
    assert found == dict.fromkeys(
        ["../up.jpg", "/root.jpg", "a\\\\..\\\\b.png"], "has a name that leads out of the archive"
    )


def test_an_image_that_unpacks_to_a_thousand_times_its_size_is_read_only_up_to_the_limit(tmp_path: Path) -> None:
    listing = list_source(make_zip(tmp_path / "all.zip", {"bomb.jpg": bytes(10**7)}), APART)
    assert len(read_all(listing, most=1000)["bomb.jpg"]) == 1001


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "all.zip", {"a.jpg": b"x"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert problems(list_source(path, APART)) == {"a.jpg": "is encrypted"}


def test_a_damaged_member_cannot_be_read(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "all.zip", {"a.jpg": b"right"}, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    with pytest.raises(UnreadableError, match="cannot be unpacked: it is damaged, its checksum"):
        read_all(list_source(path, APART))


def test_links_and_devices_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    link, device = tarfile.TarInfo("link.jpg"), tarfile.TarInfo("device.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device.type = tarfile.CHRTYPE
    listing = list_source(make_tar(tmp_path / "all.tar", link, device, ("a.jpg", b"a"), ("../b.jpg", b"b")), APART)
    assert names(listing) == ["link.jpg", "device.jpg", "a.jpg", "../b.jpg"]
    assert [("a link" in p, "leads out" in p) for p in problems(listing).values()] == [
        (True, False),
        (True, False),
        (False, True),
    ]


def test_a_truncated_tar_lists_its_whole_members(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "all.tar", ("a.jpg", b"a"), ("b.jpg", bytes(5000)))
    path.write_bytes(path.read_bytes()[:2500])
    assert problems(list_source(path, APART)) == {
        "b.jpg": "is cut off: the archive ends in the middle of it",
        "all.tar": "is not whole: what comes after 6,656 bytes cannot be told",
    }


def test_a_tar_that_is_damaged_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "all.tar", ("a.jpg", b"a"), ("b.jpg", b"b"), ("c.jpg", b"c"))
    path.write_bytes(path.read_bytes().replace(b"b.jpg", b"\xff\xff\xff\xff\xff"))
    listing = list_source(path, APART)
    assert names(listing) == ["a.jpg", "all.tar"]
    assert problems(listing) == {"all.tar": "is not whole: what comes after 1,024 bytes cannot be told"}


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.jpg", b"\xff\xd8", "use posewire image, or name a folder"),
        ("a.mp4", b"", "use posewire video, or name a folder"),
        ("a.zip", b"PK\x03\x04 no zip", "is not a whole zip archive"),
        ("a.tar", b"no tar" * 200, "a.tar is not a tar archive, or is damaged at its beginning"),
        (
            "a.tar.gz",
            b"\x1f\x8b\x08 anything",
            "is compressed as a whole, so no file of it can be read alone; unpack it and name the folder, or make it",
        ),
        ("a.bin", b"\0\1\2", "is no folder, no .zip, no .tar and no list of files"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z or RAR archive, which is not read; unpack it and name the folder"),
        ("a.txt", b"\xff\xfe\xfd", "is not a list of files in UTF-8 or UTF-16"),
        ("a.txt", b"# nothing\n", "there is no image and no video in"),
    ],
)
def test_other_sources_are_refused_in_a_line(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BulkError) as caught:
        list_source(tmp_path / name, APART)
    assert says in str(caught.value)


def test_the_digest_changes_with_every_file(tmp_path: Path) -> None:
    listing = list_source(fill(tmp_path, "a.jpg", "b.jpg"), APART)
    assert list_source(tmp_path, APART).sha256 == listing.sha256

    def changed(**what: Any) -> str:
        return replace(listing, entries=(replace(listing.entries[0], **what), listing.entries[1])).sha256

    assert len({listing.sha256, changed(name="c.jpg"), changed(size=1), changed(stamp=1)}) == 4


@pytest.mark.parametrize(
    ("files", "ids"),
    [(("000139.jpg", "12.jpg"), [139, 12]), (("1.jpg", "sub/1.png"), [0, 1]), (("7.jpg", "a.jpg"), [0, 1])],
)
def test_images_named_by_numbers_keep_their_numbers(tmp_path: Path, files: tuple[str, ...], ids: list[int]) -> None:
    assert [entry.image_id for entry in list_source(fill(tmp_path, *files), APART).entries] == ids


def test_an_entry_is_an_image_or_a_video() -> None:
    assert SourceFile(0, "A.MKV", 0, 1, 1).video
    assert not SourceFile(0, "mkv.jpg", 0, 1, 1).video
