"""The conclusions from measured steps, and their plot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from service.load.advice import advise
from service.load.chart import draw_chart
from service.load.samples import NetworkUse, Samples, Step, heading
from service.load.server_metrics import ServerMetrics
from service.observability.metrics import Metrics

PARTS = {"network": 2.0, "queue": 1.0, "prepare": 3.0, "infer": 20.0, "decode": 1.0, "serialise": 0.1}
STILLS = Step("closed", 4, 100.0, 20, 30, 40, 1.0, PARTS)


def said(*steps: Step) -> str:
    return "\n".join(advise(steps, 2.0))


def test_the_capacity_is_the_highest_load_that_was_held() -> None:
    steps = [Step("open", rate, rate, 10, 20, 30, share, PARTS) for rate, share in ((50, 1.0), (80, 0.995), (110, 0.7))]
    streams = [Step("streams", n, 9.5 * n, 20, 30, 40, share, PARTS) for n, share in ((1, 1.0), (2, 0.95), (4, 0.5))]
    text = said(*steps, *streams)
    assert "It holds 80.0 images a second: p50 10 ms, p99 30 ms." in text
    assert "It holds 2 streams with 9.5 results a second each" in text


@pytest.mark.parametrize(
    ("part", "setting"),
    [
        ("infer", "--precision int8"),
        ("prepare", "smaller JPEGs"),
        ("decode", "max_people"),
        ("track", "(trackers)"),
        ("serialise", "msgpack"),
        ("network", "(workers)"),
    ],
)
def test_the_slowest_stage_and_its_setting_are_named(part: str, setting: str) -> None:
    text = said(replace(STILLS, parts={**PARTS, part: 90.0}))
    [line] = [line for line in text.splitlines() if "largest part" in line]
    assert f"({part}: 90.0 of " in line
    assert setting in line


def test_a_part_is_called_the_largest_and_not_most_and_waiting_is_named() -> None:
    text = said(replace(STILLS, parts={**PARTS, "queue": 200.0}))
    assert "After waiting (200.0 ms), the largest part of the latency" in text
    assert "(infer: 20.0 of 226.1 ms)" in text
    assert "After waiting" not in said(STILLS)


def test_a_busy_network_is_named_before_the_parts() -> None:
    networks = {"rtmdet": NetworkUse(0.7, 1.0, 12.0), "rtmpose": NetworkUse(0.2, 3.0, 4.0)}
    step = replace(STILLS, kind="streams", networks=networks)
    assert "The network rtmdet limits streams" in said(step)
    assert "0.70 s of each second, 1.0 in a batch, and items wait 12 ms" in said(step)
    assert "detect_every" in said(step)


def test_what_spoils_the_figures_is_said() -> None:
    text = said(replace(STILLS, late_ms=150.0, statuses={429: 3, 503: 1, 0: 2}))
    assert "run this command on another machine" in text
    assert "client_share" in text
    assert "503" in text
    assert "no answer" in text
    assert "too late" not in said(STILLS)


def test_samples_are_summed_up() -> None:
    samples = Samples(dropped=1)
    samples.add(0.030, {"queue": 5.0, "infer": 20.0, "total": 26.0})
    samples.add(0.050, {"queue": 25.0, "infer": 20.0, "total": 46.0})
    samples.statuses[503] += 1
    step = Step.of("open", 10, 2.0, samples, {})
    assert (step.rate, step.p50, step.share) == pytest.approx((1.0, 40.0, 0.5))
    assert step.statuses == {503: 1}
    assert step.parts == pytest.approx({"network": 5.0, "queue": 15.0, "infer": 20.0})
    assert [len(line) for line in (heading(), step.line())] == [15 + 10 * 12] * 2


def test_metrics_of_networks_are_compared() -> None:
    metrics = Metrics()
    readings = [ServerMetrics.parse(metrics.render().decode())]
    for _ in range(20):
        metrics.batch_started("net", 3, 3)
        metrics.batch_finished("net", 3, 0.2)
        metrics.waited("net", 0.1)
    readings.append(ServerMetrics.parse(metrics.render().decode()))
    use = readings[1].since(readings[0], 8.0)["net"]
    assert (use.busy, use.batch, use.wait_ms) == pytest.approx((0.5, 3.0, 100.0))
    assert readings[1].since(readings[1], 8.0) == {}
    assert ServerMetrics.parse("<html>not found</html>").values == {}


def test_the_plot_is_a_picture_of_all_kinds_of_load(tmp_path: Path) -> None:
    nothing = replace(STILLS, p50=float("nan"), p99=float("nan"))
    steps = [STILLS, replace(STILLS, load=8), nothing, replace(STILLS, kind="streams")]
    draw_chart(tmp_path / "bench.png", "posewire bench http://localhost:8000", steps)
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.size == (1440, 2 * 380 + 56)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or ()}
    assert {(0x5E, 0x5C, 0xE6), (0xFF, 0xB0, 0x00)} <= colours  # infer and queue
