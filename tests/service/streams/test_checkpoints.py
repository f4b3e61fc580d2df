"""Checkpoints continue after one of them has failed."""

from __future__ import annotations

import asyncio

import pytest

from service.process.supervisor import Supervisor
from service.streams.registry import Streams
from service.streams.store.memory import MemoryStore
from service.streams.tokens import Tokens
from tests.instant import run


class SharedStore(MemoryStore):
    """A store that claims to be shared, so that checkpoints are taken."""

    shared = True


def test_checkpoints_continue_after_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    rounds: list[int] = []

    async def scenario() -> None:
        supervisor = Supervisor(ended.append)
        streams = Streams(
            SharedStore(), Tokens("", 60), most=4, resume_seconds=30, checkpoint_seconds=1, supervisor=supervisor
        )

        def take(age: float) -> None:
            rounds.append(1)
            if len(rounds) < 4:
                raise MemoryError

        monkeypatch.setattr(streams._checkpoints, "take", take)
        await streams.start()
        await asyncio.sleep(60)
        await streams.close()
        await supervisor.close()

    run(scenario())
    assert ended == ["checkpoints"] * 3
    assert len(rounds) > 100
