"""What writes the state of streams goes on whatever one turn comes to."""

from __future__ import annotations

import asyncio

import pytest

from service.process.supervisor import Supervisor
from service.streams.registry import Streams
from service.streams.store.memory import MemoryStore
from service.streams.tokens import Tokens
from tests.instant import run


class SharedStore(MemoryStore):
    """As if other servers had it too, so that open streams are kept in it."""

    shared = True


def test_checkpoints_go_on_after_a_turn_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    turns: list[int] = []

    async def story() -> None:
        supervisor = Supervisor(ended.append)
        streams = Streams(
            SharedStore(), Tokens("", 60), most=4, resume_seconds=30, checkpoint_seconds=1, supervisor=supervisor
        )

        def take(age: float) -> None:
            turns.append(1)
            if len(turns) < 4:
                raise MemoryError

        monkeypatch.setattr(streams._checkpoints, "take", take)
        await streams.start()
        await asyncio.sleep(60)
        await streams.close()
        await supervisor.close()

    run(story())
    assert ended == ["checkpoints"] * 3
    assert len(turns) > 100
