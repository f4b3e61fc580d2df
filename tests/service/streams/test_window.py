"""Credit: so many results and no more, until the client says that it has handled some."""

from __future__ import annotations

import asyncio

import pytest

from service.streams.window import Window


def test_it_closes_at_its_size_and_opens_with_acknowledgements() -> None:
    async def story() -> None:
        window = Window(2)
        window.sent(0)
        assert window.open
        window.sent(3)  # frames between were dropped
        assert not window.open
        waiting = asyncio.create_task(window.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        window.acknowledge(0)
        await waiting
        window.sent(4)
        assert not window.open
        window.acknowledge(4)  # stands for all before it
        window.sent(5)
        assert window.open

    asyncio.run(story())


def test_an_acknowledgement_that_was_overtaken_changes_nothing() -> None:
    window = Window(1)
    window.sent(0)
    window.acknowledge(0)
    window.sent(1)
    window.acknowledge(0)
    assert not window.open


def test_nobody_acknowledges_what_was_never_sent() -> None:
    window = Window(4)
    with pytest.raises(ValueError, match="frame 0 was acknowledged, but nothing was sent"):
        window.acknowledge(0)
    window.sent(7)
    with pytest.raises(ValueError, match="frame 8 was acknowledged, but the last with a result is 7"):
        window.acknowledge(8)
    with pytest.raises(ValueError, match="frame -1"):
        window.acknowledge(-1)


def test_a_window_of_nothing_is_always_open() -> None:
    window = Window(0)
    for number in range(1000):
        window.sent(number)
    window.acknowledge(17)
    assert window.open
