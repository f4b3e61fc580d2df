"""What a server does beside its requests, in a world whose time passes at once."""

from __future__ import annotations

import pytest

from engines.runtimes.base import RuntimeSpec
from service.api.app import create_app
from service.config import Settings
from service.inference.model_registry import Serving
from service.inference.plan_builder import PlanBuilder
from tests.instant import run
from tests.waiting import until


class Miser:
    """In place of a runtime: fails to give back memory. asked: how often it was."""

    spec = RuntimeSpec((), (), (1,), 1, "cpu", "fp32")

    def __init__(self) -> None:
        self.asked = 0

    def release(self) -> None:
        self.asked += 1
        raise RuntimeError("it is mine")

    def close(self) -> None:
        """Nothing to free."""


def test_it_goes_on_whatever_one_turn_comes_to(caplog: pytest.LogCaptureFixture) -> None:
    miser = Miser()
    serving = Serving({}, (), {"miser": miser}, {}, PlanBuilder(()))  # type: ignore[dict-item]  # it runs nothing

    async def story() -> None:
        app = create_app(Settings(), lambda _: serving).app
        async with app.router.lifespan_context(app):
            await until(lambda: miser.asked >= 2)

    run(story())
    assert {str(record.exc_info[1]) for record in caplog.records if record.exc_info} == {"it is mine"}
