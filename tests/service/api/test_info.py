"""The routes about the server itself, the documentation page, and HEAD requests."""

from __future__ import annotations

import httpx
import pytest

from tests.pictures import encoded, photo


def test_models_and_skeletons_are_listed(client: httpx.Client) -> None:
    [model] = client.get("/models").json()
    assert (model["name"], model["default"], model["licence"], model["skeleton"]) == (
        "tiny",
        True,
        "Apache-2.0",
        "coco-17",
    )
    assert model["max_batch"]["tiny"] > 1
    assert model["queue"] == {"tiny": 0}
    by_name = {s["name"]: s for s in client.get("/skeletons").json()}
    assert len(by_name["coco-17"]["keypoints"]) == 17
    assert ["left_shoulder", "left_elbow"] in by_name["coco-17"]["limbs"]


def test_metrics_count_requests_batches_and_failures(client: httpx.Client, jpeg: bytes) -> None:
    client.post("/pose", content=jpeg)
    client.post("/pose", content=jpeg[:500])
    client.post("/pose", content=encoded(photo(), "PNG"))  # decoded in a process, behind a queue
    text = client.get("/metrics").text
    for line in (
        'posewire_requests_total{route="/pose",status="200"}',
        'posewire_requests_total{route="/pose",status="400"}',
        'posewire_decode_failures_total{problem="undecodable-image"}',
        'posewire_part_seconds_bucket{le="0.0005",part="queue"}',
        'posewire_batch_size_count{network="tiny"}',
        'posewire_queue_wait_seconds_count{network="decode-process"}',
        'posewire_queue_depth{network="tiny"}',
        "posewire_ready 1.0",
        'network="tiny",precision="',
        'posewire_precision_fallback{network="tiny"} 0.0',
    ):
        assert line in text
    for name in ("rejected", "cancelled", "worker_restarts", "expired", "failed"):
        assert f"# TYPE posewire_{name}_total counter" in text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/models", "/docs"])
def test_head_gives_the_headers_of_get_without_a_body(client: httpx.Client, path: str) -> None:
    answer, full = client.head(path), client.get(path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == full.headers["content-length"]
    assert answer.headers["content-type"] == full.headers["content-type"]
