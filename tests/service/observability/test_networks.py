"""Metrics of networks: the device and precision of each, and whether it fell back to another precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from engines.runtimes.base import RuntimeSpec
from service.inference.plan_builder import PlanStatus
from service.observability.networks import NetworkMetrics
from tests.graphs import tiny_catalogue
from tests.scenarios import serve

SPEC = RuntimeSpec((), (), batch_sizes=(1,), concurrency=1, device="CPU", precision="fp32")


def test_only_the_current_device_and_precision_of_a_network_are_set() -> None:
    registry = CollectorRegistry()
    metrics = NetworkMetrics(registry)
    metrics.refresh("pose", SPEC, fallback=False)
    metrics.refresh("pose", replace(SPEC, device="H100", precision="fp16"), fallback=True)

    def value(device: str, precision: str) -> float | None:
        labels = {"network": "pose", "device": device, "precision": precision}
        return registry.get_sample_value("posewire_network_info", labels)

    assert (value("CPU", "fp32"), value("H100", "fp16")) == (0, 1)
    assert registry.get_sample_value("posewire_precision_fallback", {"network": "pose"}) == 1


@pytest.mark.parametrize(
    ("asked", "status", "fell_back"),
    [
        ("auto", None, False),
        ("fp16", None, True),  # this processor has none
        ("auto", PlanStatus(), False),  # not yet
        ("auto", PlanStatus("failed"), True),
    ],
)
def test_whether_a_network_fell_back(asked: str, status: PlanStatus | None, fell_back: bool, tmp_path: Path) -> None:
    serving = serve(tiny_catalogue(tmp_path), "tiny")
    serving = replace(serving, plan_statuses={"tiny": status} if status else {})
    assert serving.fell_back("tiny", asked) == fell_back
