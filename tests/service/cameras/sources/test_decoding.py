"""Playing what arrives faster than it was filmed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from service.cameras.sources import decoding


def test_a_clock_that_jumps_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(decoding, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    player = decoding._Player(25)
    for seconds in (5.0, 5.04, 5.08, 40_000.0, 40_000.04, 3.0, 3.04, None, 3.12):
        player.wait(seconds)
    assert slept == pytest.approx([0.04] * 6)  # the others are the first ones after a jump
