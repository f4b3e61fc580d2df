"""Frame times: from the client's clock if it is plausible, otherwise from the server's."""

from __future__ import annotations

import pytest

from service.streams.clock import FrameClock


def test_differences_between_timestamps_count_without_the_networks_jitter() -> None:
    clock = FrameClock()
    times = [clock.convert(stamp, arrived) for stamp, arrived in ((7.0, 100.0), (7.1, 100.13), (7.2, 100.25))]
    assert times == pytest.approx([100.0, 100.1, 100.2])


def test_no_frame_is_dated_after_its_arrival() -> None:
    clock = FrameClock()
    clock.convert(7.0, 100.5)  # this one was slow
    assert clock.convert(7.1, 100.2 + 0.35) == pytest.approx(100.55)
    assert clock.convert(7.2, 100.65) == pytest.approx(100.65)


def test_time_does_not_run_backwards_when_a_client_sets_its_clock() -> None:
    clock = FrameClock()
    hours = ((5000.0, 100.0), (1400.0, 100.1), (1400.1, 100.2), (9000.0, 100.3), (9000.0, 100.4))
    times = [clock.convert(stamp, arrived) for stamp, arrived in hours]
    assert times == pytest.approx([100.0, 100.1, 100.2, 100.3, 100.3])  # the last is the same instant twice
    assert times == sorted(times)


def test_without_timestamps_the_arrival_time_is_used() -> None:
    clock = FrameClock()
    assert [clock.convert(None, arrived) for arrived in (1.0, 2.0, 1.5)] == [1.0, 2.0, 2.0]


def test_a_resumed_stream_continues_after_its_last_frame() -> None:
    clock = FrameClock(last=200.0)
    assert clock.convert(None, 199.9) == 200.0
    assert clock.convert(3.0, 200.5) == pytest.approx(200.5)


def test_absurd_timestamps_are_ignored() -> None:
    clock = FrameClock()
    stamps = (1e305, 1e305, -1e305, 0.0, 1e300, 5e-324)
    assert [clock.convert(stamp, 1e9 + n) for n, stamp in enumerate(stamps)] == [1e9 + n for n in range(6)]
