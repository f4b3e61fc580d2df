"""The states of cameras in a folder: they survive a restart, and damage costs only the camera that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from service.cameras.state_files import StateFiles
from service.streams.store.base import StoredState
from service.tracking_workers.codec import StateError
from tests.waiting import until


class Wall:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run(story: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_state_survives_a_restart_with_its_age(tmp_path: Path) -> None:
    async def story() -> None:
        wall = Wall()
        store = StateFiles(tmp_path / "states", wall=wall)
        store.keep("camera:door", StoredState(3, 7, b"old"), 60)
        store.keep("camera:door", StoredState(3, 8, b"new", 0.5), 60)
        await store.close()
        wall.now += 20
        after = StateFiles(tmp_path / "states", wall=wall)
        stored = await after.claim("camera:door", 60)
        assert stored == StoredState(4, 8, b"new")
        assert stored is not None
        assert stored.age == pytest.approx(20.5)
        assert await after.claim("camera:hall", 60) is None
        assert (tmp_path / "states").stat().st_mode & 0o077 == 0

    run(story)


def test_a_state_that_has_expired_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        wall = Wall()
        store = StateFiles(tmp_path, wall=wall)
        store.keep("camera:door", StoredState(1, 1, b"x"), 60)
        await store.close()
        wall.now += 61
        assert await StateFiles(tmp_path, wall=wall).claim("camera:door", 60) is None

    run(story)
    assert list(tmp_path.iterdir()) == []


def test_states_are_written_while_the_server_runs(tmp_path: Path) -> None:
    async def story() -> None:
        store = StateFiles(tmp_path)
        await store.start(lambda _session, _generation: None)
        store.keep("camera:door", StoredState(1, 1, b"x"), 60)
        await until((tmp_path / "camera:door").exists)
        assert await StateFiles(tmp_path).claim("camera:door", 60) == StoredState(2, 1, b"x")
        await store.close()

    run(story)


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\x95\x01\x02", b"\x96\x02\x01\x01\xc0\xc0\xc0", b"x" * 2_000_000])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "camera:door").write_bytes(damage)

    async def story() -> None:
        store = StateFiles(tmp_path)
        with pytest.raises(StateError, match="camera:door is damaged"):
            await store.claim("camera:door", 60)
        store.keep("camera:door", StoredState(1, 1, b"x"), 60)
        await store.close()
        assert await StateFiles(tmp_path).claim("camera:door", 60) == StoredState(2, 1, b"x")

    run(story)


def test_a_folder_that_cannot_be_written_is_logged_once_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "states"
    folder.write_text("in the way", "utf-8")

    async def story() -> None:
        store = StateFiles(folder)
        for number in range(3):
            store.keep("camera:door", StoredState(1, number, b"x"), 60)
            await store.flush(10)
        assert await store.claim("camera:door", 60) == StoredState(2, 2, b"x")
        folder.unlink()
        store.keep("camera:door", StoredState(2, 3, b"x"), 60)
        await store.close()
        assert await StateFiles(folder).claim("camera:door", 60) == StoredState(3, 3, b"x")

    run(story)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_session_of_another_name_never_becomes_a_path(tmp_path: Path) -> None:
    async def story() -> None:
        store = StateFiles(tmp_path / "states")
        store.keep("../camera", StoredState(1, 1, b"x"), 60)
        await store.close()
        assert await store.claim("../camera", 60) is None

    run(story)
    assert list(tmp_path.iterdir()) == []
