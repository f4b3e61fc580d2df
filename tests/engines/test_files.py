"""Unusual file names and files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.files import NotAFileError, open_at_once, open_regular, read_small, restored, shown, without_mark


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"k\xc3\xb6lle \xf0\x9f\x98\x80.jpg", "kölle 😀.jpg"),
        (b"\xff.jpg", "\\xff.jpg"),
        (b"a\nb\t\x1b[31m.jpg", "a\\x0ab\\x09\\x1b[31m.jpg"),
        (b"\\xff.jpg", "\\\\xff.jpg"),
        (b"\xc2\x9b.jpg", "\\xc2\\x9b.jpg"),
        (b"", ""),
    ],
)
def test_a_name_is_shown_as_one_line_of_utf_8(name: bytes, text: str) -> None:
    assert shown(name) == text
    assert shown(Path(os.fsdecode(name)) if name else "") == text


@given(st.binary())
def test_every_name_can_be_restored(name: bytes) -> None:
    text = shown(name)
    text.encode("utf-8")
    assert len(text.splitlines()) <= 1
    assert restored(text) == name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_are_removed(encoding: str) -> None:
    assert without_mark("kölle\r\n".encode(encoding)) == "kölle\r\n".encode()


def test_a_pipe_without_a_writer_reads_as_empty_and_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open_at_once(tmp_path / "pipe") as pipe:
        assert pipe.read() == b""
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(NotAFileError):
            open_regular(path)


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"four")
    assert read_small(tmp_path / "a", 4) == b"four"
    for path in (tmp_path / "a", Path("/dev/zero")):
        with pytest.raises(OSError, match="is larger than 3 bytes"):
            read_small(path, 3)
