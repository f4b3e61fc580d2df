"""Short pauses between tries, so that tests of sinks that fail take no minutes."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.events.delivery._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("service.events.delivery._LONGEST_PAUSE_S", 0.2)
