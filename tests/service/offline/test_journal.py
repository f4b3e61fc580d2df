"""A journal returns exactly the records that were written before a crash."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from service.offline.journal import Journal, JournalError

ABOUT = {"video": "a.mp4", "min_score": 0.3}


def write(path: Path, *records: bytes) -> None:
    with Journal(path, ABOUT) as journal:
        while journal.next() is not None:
            pass
        for record in records:
            journal.append(record)


def read(path: Path) -> list[bytes]:
    with Journal(path, ABOUT) as journal:
        return [record for _ in range(journal.found) if (record := journal.next()) is not None]


def test_records_are_read_in_order_and_more_can_follow(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, b"one", b"", bytes(100_000))
    write(path, b"four")
    assert read(path) == [b"one", b"", bytes(100_000), b"four"]


def test_records_after_a_cut_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, b"one", b"two", bytes(100_000), b"four")
    with Journal(path, ABOUT) as journal:
        assert [journal.next(), journal.next()] == [b"one", b"two"]
        journal.cut(keep=1)
        assert (journal.found, journal.next()) == (1, None)
        journal.append(b"second")
    assert read(path) == [b"one", b"second"]


@pytest.mark.parametrize("cut", range(1, 13))
def test_an_incomplete_record_at_the_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    write(path, b"first", b"last")
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(path) == [b"first"]
    write(path, b"again")
    assert read(path) == [b"first", b"again"]


def test_a_damaged_record_ends_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, b"first", b"middle", b"last")
    path.write_bytes(path.read_bytes().replace(b"middle", b"muddle"))
    assert read(path) == [b"first"]


@pytest.mark.parametrize("length", range(0, 60, 7))
def test_an_incomplete_header_starts_a_new_journal(tmp_path: Path, length: int) -> None:
    path = tmp_path / "j"
    write(path, b"first")
    path.write_bytes(path.read_bytes()[:length])
    assert read(path) == []


def test_a_journal_of_other_work_is_replaced_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, b"first")
    with Journal(path, {**ABOUT, "min_score": 0.5}) as journal:
        assert journal.other == ABOUT
        assert journal.next() is None
        journal.append(b"anew")
    with Journal(path, {**ABOUT, "min_score": 0.5}) as journal:
        assert journal.other is None


def test_a_file_that_is_not_a_journal_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("my notes\n", "utf-8")
    with pytest.raises(JournalError, match="not a journal of posewire; move it away"):
        Journal(path, ABOUT)
    assert path.read_text("utf-8") == "my notes\n"


def test_two_processes_cannot_do_the_same_work_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", ABOUT), pytest.raises(JournalError, match="in use"):
        Journal(tmp_path / "j", ABOUT)
    write(tmp_path / "j", b"later")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"cannot write .*nowhere.*: No such file or directory"):
        Journal(tmp_path / "nowhere" / "j", ABOUT)


def test_records_cannot_be_appended_before_the_old_ones_are_read(tmp_path: Path) -> None:
    write(tmp_path / "j", b"first")
    with Journal(tmp_path / "j", ABOUT) as journal, pytest.raises(ValueError, match="1 records"):
        journal.append(b"second")


def test_a_journal_without_records_is_removed(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", ABOUT):
        assert (tmp_path / "j").exists()
    assert not (tmp_path / "j").exists()


def test_the_journal_of_finished_work_is_removed(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", ABOUT) as journal:
        journal.append(b"all")
        journal.remove()
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("header", [b"{garbage", b"[1]", b"\xff\0", b"[" * 60_000, b"null"])
def test_a_damaged_header_starts_a_new_journal(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "j").write_bytes(b"posewire journal 1 " + header + b"\nrecords")
    with Journal(tmp_path / "j", ABOUT) as journal:
        assert (journal.found, journal.other) == (0, {})
        journal.append(b"anew")
    assert read(tmp_path / "j") == [b"anew"]


def test_a_record_that_claims_gigabytes_is_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "j", b"first")
    with (tmp_path / "j").open("ab") as file:
        file.write(b"\xff" * 8 + b"x" * 100)
    assert read(tmp_path / "j") == [b"first"]


def test_a_pipe_or_folder_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(JournalError, match="pipe is not a file; move it away"):
        Journal(tmp_path / "pipe", ABOUT)
    with pytest.raises(JournalError, match=r"cannot write .*: Is a directory"):
        Journal(tmp_path, ABOUT)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(tmp_path / "j", ABOUT) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(JournalError, match=r"cannot write .*j: File too large"):
                journal.append(bytes(100_000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
