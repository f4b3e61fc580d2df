"""Pipelines over real little networks: what meets in a batch, what is refused, what a client that leaves costs."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.catalogue.models import load
from engines.poses import Detections
from engines.runtimes.base import Arrays
from service.batching import BatchObserver, DeadlineExceededError, OverloadedError
from service.config import Settings
from service.inference.model_registry import Serving, open_serving
from service.inference.stage import InferenceOptions
from service.inference.top_down import estimate_all
from service.media.decode import ImageLimits, decode
from service.media.image_files import UndecodableImageError
from tests.pictures import encoded, photo
from tests.scenarios import run, serve
from tests.waiting import until

JPEG = encoded(photo(640, 480), quality=90)
ASK = InferenceOptions(min_score=0.0)


class Gated:
    """Stands in front of a network: counts the batches it runs, and holds them back until `open`."""

    def __init__(self, serving: Serving, name: str) -> None:
        runtime = serving.runtimes[name]
        self._run = runtime.run
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()
        runtime.run = self.run  # type: ignore[method-assign]

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        self.batches.append(len(next(iter(feeds.values()))))
        self.open.wait(30)
        return self._run(feeds)


def test_a_detector_finds_the_people_and_each_is_estimated_in_the_pixels_of_the_image(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    estimate = run(serving, serving.default.pipeline.image(JPEG, ASK))
    assert (estimate.width, estimate.height, len(estimate.poses)) == (640, 480, 2)
    boxes = sorted(estimate.poses.boxes.round(0).tolist())  # the detector's 320 pixels show 640
    np.testing.assert_allclose(boxes, [[80, 80, 240, 440], [360, 120, 520, 460]], atol=1)
    for points, (x1, y1, x2, y2) in zip(estimate.poses.keypoints, estimate.poses.boxes, strict=True):
        wide, high = x2 - x1, y2 - y1
        assert (points > (x1 - wide, y1 - high)).all()
        assert (points < (x2 + wide, y2 + high)).all()
    assert all(seconds >= 0 for seconds in estimate.timing.parts().values())


def test_the_scores_of_both_networks_count_and_limits_hold(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")

    async def story() -> tuple[int, int]:
        best = await serving.default.pipeline.image(JPEG, InferenceOptions(min_score=0.0, max_people=1))
        none = await serving.default.pipeline.image(JPEG, InferenceOptions(min_score=1.0))
        return len(best.poses), len(none.poses)

    assert run(serving, story()) == (1, 0)


def test_a_smaller_decode_gives_the_same_places(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    large = encoded(photo(640, 480).resize((2560, 1920)), quality=95)

    async def story() -> tuple[NDArray[Any], NDArray[Any], int]:
        pipeline = serving.default.pipeline
        image, _ = await pipeline.decode(large, ASK)
        small, (full, _) = (
            await pipeline.image(large, ASK),
            await pipeline.frame(decode(large, ImageLimits()).pixels, ASK),
        )
        return small.poses.boxes, full.boxes, image.scale

    small, full, scale = run(serving, story())
    assert scale == 2
    np.testing.assert_allclose(small, full, atol=2)


def test_an_idle_pipeline_decodes_a_small_image_at_once_and_a_busy_one_on_threads(catalogue: Path) -> None:
    class Batches(BatchObserver):
        def __init__(self) -> None:
            self.names: list[str] = []

        def batch_started(self, name: str, items: int, units: int) -> None:  # noqa: ARG002 - the signature is given
            self.names.append(name)

    batches = Batches()
    serving = open_serving(load([catalogue]), ["tiny"], Settings(), batches)

    async def story() -> None:
        pipeline = serving.default.pipeline
        await pipeline.image(JPEG, ASK)
        assert batches.names == ["tiny"]
        await pipeline.image(encoded(photo(1600, 1200)), ASK)
        assert batches.names == ["tiny", "decode", "tiny"]
        await estimate_all(pipeline, [JPEG] * 3, ASK)
        assert batches.names.count("decode") == 3

    run(serving, story())


def test_crops_of_different_clients_meet_in_one_batch(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    gate = Gated(serving, "pair")

    async def story() -> None:
        gate.open.clear()
        pipeline = serving.default.pipeline
        tasks = [
            asyncio.create_task(pipeline.image(JPEG, InferenceOptions(client=str(n), min_score=0))) for n in range(6)
        ]
        stage = pipeline.stages[-1]
        workers = stage.runtime.spec.concurrency
        await until(lambda: stage.batcher.stats.waiting_items + sum(gate.batches) == 12)  # all crops of all six
        assert len(gate.batches) == workers
        gate.open.set()
        await asyncio.gather(*tasks)

    run(serving, story())
    assert sum(gate.batches) == 12
    assert max(gate.batches) > 2  # two people a frame: more than two crops are more than one client's


def test_one_broken_image_harms_only_itself(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    first, broken, last = run(serving, estimate_all(serving.default.pipeline, [JPEG, JPEG[:999], JPEG], ASK))
    assert isinstance(broken, UndecodableImageError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    np.testing.assert_array_equal(first.poses.keypoints, last.poses.keypoints)


def test_a_client_that_leaves_while_its_crops_wait_costs_no_inference(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    gate = Gated(serving, "tiny")

    async def story() -> None:
        gate.open.clear()
        pipeline = serving.default.pipeline
        stage = pipeline.stages[-1]
        workers = stage.runtime.spec.concurrency
        busy = [asyncio.create_task(pipeline.image(JPEG, ASK)) for _ in range(workers)]
        await until(lambda: len(gate.batches) == workers)
        leaving = asyncio.create_task(pipeline.image(JPEG, ASK))
        await until(lambda: stage.batcher.stats.waiting_items == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert stage.batcher.stats.waiting_items == 0
        gate.open.set()
        await asyncio.gather(*busy)
        assert sum(gate.batches) == workers

    run(serving, story())


def test_a_deadline_that_has_passed_is_refused_and_a_hopeless_one_too(catalogue: Path) -> None:
    serving = serve(catalogue, "tiny")
    gate = Gated(serving, "tiny")

    async def story() -> None:
        pipeline = serving.default.pipeline
        await pipeline.image(JPEG, ASK)  # an idle pipeline, once it knows how long a batch takes
        with pytest.raises(DeadlineExceededError):
            pipeline.test(InferenceOptions(deadline=time.monotonic() - 1))
        gate.open.clear()
        tasks = [asyncio.create_task(pipeline.image(JPEG, ASK)) for _ in range(40)]
        stage = pipeline.stages[-1]
        await until(lambda: stage.batcher.stats.waiting_items >= 20)
        with pytest.raises(OverloadedError) as refusal:
            pipeline.test(InferenceOptions(deadline=time.monotonic() + 0.001))
        assert refusal.value.retry_after_s > 0
        with pipeline.admit(InferenceOptions(deadline=time.monotonic() + 600)) as admitted:
            assert sorted(admitted.reservations) == ["decode", "tiny"]
        gate.open.set()
        await asyncio.gather(*tasks)

    run(serving, story())


def test_a_tracker_that_knows_where_people_are_saves_the_detector(catalogue: Path) -> None:
    serving = serve(catalogue, "pair")
    detector = Gated(serving, "pair-detector")
    frame = np.asarray(photo(640, 480))
    boxes = np.array([[100, 50, 300, 450]], np.float32)
    known = Detections(boxes, np.ones(1, np.float32))
    poses, timing = run(serving, serving.default.pipeline.frame(frame, ASK, known))
    assert poses.boxes.tolist() == boxes.tolist()
    assert detector.batches == []
    assert timing.infer > 0
