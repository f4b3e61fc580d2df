"""Finding the files that kill workers, and the progress of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.offline.bulk.errors import BulkError
from service.offline.bulk.listing import SourceFile
from service.offline.bulk.scheduler import BulkProgress, Case, bar
from service.offline.bulk.shards import Failure, Mark, Shard, Summary, cut_into_shards


def images(*numbers: int) -> Shard:
    return Shard(0, tuple(SourceFile(n, f"{n}.jpg", f"{n}.jpg", 1, 1) for n in numbers))


def deaths(*marks: tuple[int, ...]) -> Case:
    case = Case(images(1, 2, 3))
    for at in marks:
        case.learn(Mark(at, 0, 3), "killed")
    return case


def test_files_of_a_dead_worker_are_tried_alone() -> None:
    task = deaths((1, 2)).task()
    assert (set(task.alone), set(task.without)) == ({1, 2}, set())


def test_a_file_that_kills_a_second_worker_is_left_out() -> None:
    task = deaths((1, 2), (2,)).task()
    assert (set(task.alone), set(task.without)) == ({1}, {2})


def test_one_death_is_not_enough_to_leave_a_file_out() -> None:
    assert deaths((2,)).task().without == frozenset()


def test_files_that_kill_only_as_a_group_are_left_out_in_the_end() -> None:
    assert deaths((1, 2), (1, 2), (1, 2)).task().without == frozenset()
    assert deaths((1, 2), (1, 2), (1, 2), (1, 2)).task().without == {1, 2}


def test_workers_that_die_before_they_start_end_the_batch() -> None:
    case = Case(images(1))
    case.learn(None, "exit code 1")
    case.learn(Mark((1,), 0, 1), "killed")
    case.learn(None, "exit code 1")
    case.learn(None, "exit code 1")
    with pytest.raises(BulkError, match=r"3 workers died before they began \(exit code 1\); is there enough memory\?"):
        case.learn(None, "exit code 1")


def test_images_share_shards_and_each_video_has_its_own() -> None:
    names = ["a.jpg", "b.mp4", "c.png", "d.jpg", "../e.mov"]
    shards = cut_into_shards([SourceFile(n, name, name, 1, 1) for n, name in enumerate(names)], 2)
    assert [[entry.name for entry in shard.entries] for shard in shards] == [
        ["a.jpg", "c.png"], ["d.jpg"], ["b.mp4"], ["../e.mov"]
    ]  # fmt: skip
    assert [shard.name for shard in shards] == ["images-00000", "images-00001", "00000-b.mp4", "00001-e.mov"]


def test_a_terminal_shows_a_bar_for_each_shard_under_way(tmp_path: Path) -> None:
    said: list[str] = []
    shard, other = images(1, 2, 3, 4), Shard(1, (SourceFile(5, "5.jpg", "5.jpg", 1, 1),))
    (tmp_path / "parts").mkdir()
    Mark((2,), 2, 4).write(shard.file(tmp_path, ".at"))
    progress = BulkProgress(tmp_path, 5, 1, said.append, True)
    progress.working([shard, other])
    assert said.pop().replace("\x1b[K", "").splitlines() == [
        "images-00000                     [############------------] 2/4",
        "images-00001                     begins",
        "1 of 5 shards",
    ]
    progress.finished(shard, Summary(4, 0, 7, (Failure("2.jpg", "undecodable", "truncated"),)))
    assert said == ["\x1b[3A\x1b[J", "2 of 5: images-00000: 4 images, 7 people, 1 failed\n"]


def test_without_a_terminal_there_is_a_line_for_each_shard(tmp_path: Path) -> None:
    said: list[str] = []
    progress = BulkProgress(tmp_path, 2, 0, said.append, False)
    progress.working([images(1)])
    progress.lost(images(1), "killed by SIGKILL")
    progress.finished(Shard(0, (SourceFile(0, "a.mp4", "a.mp4", 1, 1),)), Summary(0, 250, 3))
    progress.end()
    assert said == [
        "a worker died at images-00000 (killed by SIGKILL); another one does it again\n",
        "1 of 2: 00000-a.mp4: 250 frames, 3 people\n",
    ]


def test_a_video_of_unknown_length_has_an_empty_bar() -> None:
    assert bar(images(1), Mark((1,), 48, 0)).endswith("[------------------------] 48/?")
